"""What is raised for a record of trace.state that cannot be read."""


class UnreadableRecord(Exception):
    """A record of trace.state that cannot be read, and its key."""

    def __init__(self, key: bytes, problem: Exception) -> None:
        super().__init__(str(problem))
        self.key = key
