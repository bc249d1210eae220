"""Stand-ins for the vendors: one server each."""
