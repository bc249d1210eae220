"""Events as JSON lines in a file, synced to disk before they count as delivered."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from connectors import (
    Batch,
    Delivered,
    Enriched,
    Health,
    Http,
    Outcomes,
    Paused,
    Payload,
    Rejected,
    Skip,
    sink,
)
from connectors.sinks.lines import as_json
from tailrace.errors import ConfigError

LOCK_SECONDS: Final = 5.0
"""How long a batch waits for another process's lock, without a change of the file, before the sink pauses."""
LOCK_POLL: Final = 0.01
"""Seconds between two tries to lock."""


@sink("file", max_records=2000, max_bytes=8_000_000)
class File:
    """JSON lines appended to a file, synced to the disk batch by batch."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        path: str
        """The file; its folder must exist. Several processes of one machine may append to it."""
        fsync: bool = True
        """If false, the operating system decides when to write; a power failure may lose delivered records.
        """

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.path)
        self._fsync = settings.fsync
        self._lock = asyncio.Lock()
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise ConfigError(
                f"path: {self._path} is not a valid file: "
                f"{'it is a folder' if self._path.is_dir() else 'its folder does not exist'}"
            )

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        line = as_json(event) + b"\n"
        return Payload(line, len(line))

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        """Writes all lines of a batch or none: if the disk is full, the partial write is undone.

        Pauses if another process keeps the lock of the file, as one does that was stopped (SIGSTOP) while it
        wrote. Raises OSError, which is retried. A batch that is cancelled during the write may be in the
        file, and come again.
        """
        data = b"".join(batch.bodies)
        async with self._lock:
            until, size = 0.0, -1
            while (seen := await asyncio.to_thread(self._append, data)) is not None:
                if seen != size:  # others write; a lock that is polled for is not given in turn
                    until, size = time.monotonic() + LOCK_SECONDS, seen
                elif time.monotonic() >= until:
                    held = f"another process has held the lock of {self._path} for {LOCK_SECONDS:g} s"
                    return Paused(f"{held}; is it stopped?", "path")
                await asyncio.sleep(LOCK_POLL)
        return Delivered()

    async def check(self, http: Http) -> Health:
        try:
            os.close(self._open())
        except OSError as e:
            return Health(False, f"{self._path}: {e.strerror}; see path")
        return Health(True)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _append(self, data: bytes) -> int | None:
        """Appends, unless another process has the lock.

        It never waits for the lock: a thread that waits can be neither cancelled nor left behind when the
        process ends.

        Returns:
            None if the data is written; the size of the file if another process has the lock.
        """
        fd = self._open()
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # taking back may not hit another one's lines
            except BlockingIOError:
                return os.fstat(fd).st_size
            size = os.fstat(fd).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if self._fsync:
                    os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
            return None
        finally:
            os.close(fd)
