"""What the processor does with a record: correlate, enrich, measure. Pure."""
