"""What tests of connectors run against: receivers that keep what they get."""
