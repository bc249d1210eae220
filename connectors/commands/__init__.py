"""The sub-commands: connect, sinks, render, and what `tailrace check` asks of a sink."""
