"""What a sink gets of a record: filters, sampling, content policy, masking. Pure."""
