"""The counts that must balance: what a sink commits with its offsets, and the report over all of them."""
