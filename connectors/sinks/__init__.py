"""The sinks that ship with tailrace, one module a vendor."""
