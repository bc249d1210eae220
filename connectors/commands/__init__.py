"""The sub-commands connect, sinks and render, and the sink checks of `tailrace check`."""
