"""Stable names for the workers of one host.

A slot is held by a file lock: two supervisors get different slots, and a restart gets the same one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

SLOTS: Final = 256


class HostSlot:
    """The lowest number on this host that no other `tailrace process` of the same app_id holds.

    It is released when the process ends.
    """

    def __init__(self, app_id: str, folder: Path | None = None) -> None:
        """Takes a slot.

        Args:
            app_id: streams.app_id.
            folder: where the locks are; default: the system's temporary folder.

        Raises:
            RuntimeError: all slots are taken.
        """
        folder = folder or Path(tempfile.gettempdir())
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in app_id)
        for number in range(SLOTS):
            path = folder / f"tailrace-{safe}-{number}.lock"
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError:
                continue  # another user's file
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                continue
            self.number = number
            return
        raise RuntimeError(f"{SLOTS} processes of {app_id} run on this host")

    @property
    def instance_id(self) -> str:
        return f"{socket.gethostname()}-{self.number}"
