"""445 recorded workflow runs of a real engine, and the adapter that turns them into trace events."""
