"""A content store in a folder of a file system, which several hosts may share."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UNFINISHED: Final = "unfinished"
"""Folder of files that are being written. No tenant's folder is called so."""


class Folder:
    """Files below a folder. A file is complete when its name appears, also after a kill or a power cut.

    Files have mode 0600 and folders 0700.

    Args:
        root: the folder. It is made by the first `write`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, path: str, data: bytes) -> None:
        """Writes a file under another name, syncs it and renames it.

        Raises:
            OSError: the file system refuses, or is full. No file is left then.
        """
        target, waiting = self._root / path, self._root / UNFINISHED
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        waiting.mkdir(mode=0o700, exist_ok=True)
        target.parent.parent.mkdir(mode=0o700, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        made = waiting / secrets.token_hex(16)
        try:
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            made.rename(target)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def refresh(self, path: str, size: int) -> bool:
        """Sets a file's modification time to now.

        Returns:
            False if there is no such file, or if it has another size.
        """
        try:
            if (self._root / path).stat().st_size != size:
                return False
            os.utime(self._root / path)
        except FileNotFoundError:
            return False
        return True

    def read(self, path: str, most: int) -> bytes:
        """The first `most` bytes of a file; all of them if that is negative.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read, or the store's own folder does not exist.
        """
        try:
            with (self._root / path).open("rb") as file:
                return file.read(most)
        except FileNotFoundError:
            if self._root.is_dir():
                raise
            raise OSError(f"the folder {self._root} does not exist here") from None

    def files(self) -> Iterator[tuple[str, float, int]]:
        """Path, modification time and bytes of each file, also of those that `write` has left unfinished.

        A file that disappears meanwhile is left out. A store that was never written to has none.
        """
        yield from _below(self._root, "")

    def modified_at(self, path: str) -> float | None:
        """A file's modification time in seconds; None if there is none."""
        try:
            return (self._root / path).stat().st_mtime
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        """Removes a file. One that does not exist is no error."""
        (self._root / path).unlink(missing_ok=True)


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, float, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(folder / entry.name, f"{prefix}{entry.name}/")
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield prefix + entry.name, found.st_mtime, found.st_size
    except FileNotFoundError:
        return
