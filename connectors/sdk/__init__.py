"""What the author of a sink imports."""
