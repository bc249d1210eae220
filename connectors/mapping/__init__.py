"""From an event to what a vendor stores: what the mappings of all sinks share."""
