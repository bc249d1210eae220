"""445 recorded workflow runs of a real engine, and the adapter that makes trace events of them."""
