"""A folder of spool files, which several processes share.

Each process writes files of its own, and holds a lock on the one that it writes. A file without a lock was
closed, or its process has died: whoever gets the lock sends its events and removes it. A file that is sent
only in part when its sender dies is sent again as a whole, with the same event ids.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from tailrace.spool import frames
from tailrace.spool.frames import MAGIC, Spooled

log: Final = logging.getLogger("tailrace.publisher")

SUFFIX: Final = ".spool"
FILE_BYTES: Final = 16 * 1024 * 1024
"""A file that is larger is closed, and the next one begun."""
_NEWLY_MADE: Final = 60.0
"""Seconds for which an empty file is left alone: its process is about to write to it."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a full disk, which may have room later."""


class SpoolFull(Exception):
    """Events do not fit: the folder has reached its bound, or the disk is full."""


def path_of(spool_dir: str) -> Path:
    """The folder that `publisher.spool_dir` names. Does not raise."""
    return Path(os.path.expanduser(spool_dir))


def problem(spool_dir: str, make: bool) -> str | None:
    """Why no spool files can be written in a folder, as a text that names the setting; None if they can.

    A file is made there, locked and removed. A full disk is logged and is not a problem: it may have room
    by the time that events must be written.

    Args:
        spool_dir: The setting `publisher.spool_dir`.
        make: Whether to make the folder. If not, and it does not exist, the folder in which it would be made
            is tried instead.
    """
    folder = path_of(spool_dir)
    try:
        if os.path.expanduser(spool_dir).startswith("~"):
            raise ValueError("the home folder is not known")
        if "\0" in spool_dir:
            raise ValueError("it contains a null byte")
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while not make and not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, ValueError) as e:
        if isinstance(e, OSError) and e.errno in _FULL:
            log.warning("publisher.spool_dir: the disk of %s is full: %s", spool_dir, e.strerror)
            return None
        return (
            f"publisher.spool_dir: {spool_dir!r} cannot be used ({_reason(e)}); name a folder that this user "
            "may write to, or one that it may make"
        )
    return None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


class Folder:
    """The files of `publisher.spool_dir`.

    It writes for one process. Forked children must not use it. Not safe for several threads at once.

    Args:
        path: The folder; made with the first file that is written, and again if it was removed.
        max_bytes: Most bytes of all files in it, of all processes.
        max_frame: Most bytes of an event.
    """

    def __init__(self, path: Path, max_bytes: int, max_frame: int) -> None:
        self.path, self._max_bytes, self._max_frame = path, max_bytes, max_frame
        self._file: BinaryIO | None = None
        self._name: Path | None = None
        self._written = 0

    # -- writing
    def write(self, events: Iterable[Spooled]) -> None:
        """Appends events and syncs them to the disk: afterwards they survive this process and the machine.

        All or nothing: if it raises, none of them is in the file.

        Raises:
            SpoolFull: They do not fit.
            OSError: The disk refuses.
        """
        data = b"".join(map(frames.encode, events))
        if self.size() + len(data) > self._max_bytes:
            raise SpoolFull(f"{self.path} has reached publisher.spool_max_bytes ({self._max_bytes})")
        if self._file is not None and not os.fstat(self._file.fileno()).st_nlink:
            self.end()  # somebody has removed it
        file = self._file or self._begin()
        try:
            _write_all(file, data)
            os.fsync(file.fileno())
            if not os.fstat(file.fileno()).st_nlink:
                raise OSError(errno.ENOENT, f"the file was removed while it was written: {self._name}")
        except OSError as e:
            self._undo(file)
            if e.errno in _FULL:
                raise SpoolFull(f"{self.path}: {e.strerror}") from None
            raise
        self._written += len(data)
        if self._written >= FILE_BYTES:
            self.end()

    def end(self) -> None:
        """Closes the file that is being written, so that its events can be sent."""
        if self._file is not None:
            self._file.close()  # this releases the lock
        self._file = self._name = None
        self._written = 0

    def _begin(self) -> BinaryIO:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._name = self.path / f"{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
        descriptor = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # another process may look whether it is empty
            _write_all(file, MAGIC)
            _sync_folder(self.path)
        except OSError as e:
            file.close()
            self._name.unlink(missing_ok=True)
            if e.errno in _FULL:
                raise SpoolFull(f"{self.path}: {e.strerror}") from None
            raise
        self._file, self._written = file, len(MAGIC)
        return file

    def _undo(self, file: BinaryIO) -> None:
        """Removes what a failed write has left, so that it does not stand before later frames."""
        try:
            os.ftruncate(file.fileno(), self._written)
            os.lseek(file.fileno(), self._written, os.SEEK_SET)
        except OSError:
            self.end()  # readers stop at the broken frame; later events go to the next file

    # -- what is there
    def files(self) -> list[Path]:
        """All spool files, the oldest first."""
        found = []
        for path in self.path.glob(f"*{SUFFIX}"):
            try:
                found.append((path.stat().st_mtime_ns, path))
            except OSError:
                continue  # another process has just removed it
        return [path for _, path in sorted(found)]

    def size(self) -> int:
        """Bytes of all files."""
        total = 0
        for path in self.path.glob(f"*{SUFFIX}"):
            try:
                total += path.stat().st_size
            except OSError:
                continue
        return total

    def take(self, now: float) -> Iterator[Taken]:
        """The files that nobody writes or sends, the oldest first. Each is locked until it is closed.

        Args:
            now: The current time in Unix seconds, for files that are just being made.
        """
        for path in self.files():
            if path == self._name:
                continue
            try:
                file = path.open("rb")
            except OSError:
                continue
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                there = os.fstat(file.fileno())
                if there.st_nlink == 0 or (there.st_size == 0 and now - there.st_mtime < _NEWLY_MADE):
                    file.close()
                    continue
            except OSError:
                file.close()
                continue
            yield Taken(path, file, there.st_mtime, self._max_frame)


class Taken:
    """A file whose lock this process has.

    Attributes:
        path: Where it is.
        written_at: When it was last written, Unix seconds.
    """

    def __init__(self, path: Path, file: BinaryIO, written_at: float, max_frame: int) -> None:
        self.path, self.written_at = path, written_at
        self._file, self._max_frame = file, max_frame

    def events(self) -> Iterator[Spooled]:
        """Its events, from the first one on."""
        self._file.seek(0)
        return frames.decode(self._file, self._max_frame)

    def remove(self) -> None:
        """Removes the file: all its events are in Kafka, or given up. Never raises."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Gives the lock back; the file stays."""
        self._file.close()


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_folder(path: Path) -> None:
    """Makes a new file's name survive the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
