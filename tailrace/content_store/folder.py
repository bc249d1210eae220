"""A content store in a folder of a file system, which several hosts may share."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tailrace.content_store.naming import name_of

UNFINISHED: Final = "unfinished"
"""Folder of files that are being written. No tenant's folder is called so."""


_ASIDE: Final = "~"
"""Stands for a slash in the name of a file that `remove` has set aside, and before its random end. No other
name has it.
"""


class Folder:
    """Files below a folder. A file is complete when its name appears, also after a kill or a power cut.

    Files have mode 0600 and folders 0700.

    Args:
        root: the folder. It is never made here: where a share is not mounted, files would be written that no
            other host can read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, path: str, data: bytes) -> None:
        """Writes a file under another name, syncs it and renames it.

        Raises:
            OSError: the file system refuses, or is full, or the folder does not exist. No file is left then.
        """
        target, waiting = self._root / path, self._root / UNFINISHED
        self._make(waiting)
        self._make(target.parent.parent)
        self._make(target.parent)
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
        _sync(target.parent)

    def _make(self, folder: Path) -> None:
        """Makes a folder, of which the name stays also after a power cut."""
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            raise self._absent() from None
        _sync(folder.parent)

    def _absent(self) -> OSError:
        return OSError(f"the folder {self._root} does not exist here: mount it, or make it")

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
            raise self._absent() from None

    def files(self, folder: str = "") -> Iterator[tuple[str, float, int]]:
        """Path, modification time and bytes of each file, also of those that `write` has left unfinished.

        A file that disappears meanwhile is left out.

        Args:
            folder: only those in here.

        Raises:
            OSError: it cannot be read, or the store's own folder does not exist.
        """
        if not self._root.is_dir():
            raise self._absent()
        yield from _below(self._root / folder, f"{folder}/" if folder else "")

    def remove(self, path: str, modified_before: float | None = None) -> bool:
        """Removes a file.

        A file that `refresh` makes younger at the same time stays: it is set aside before it is looked at, so
        that `refresh` comes either before that, and is seen, or finds no file.

        Args:
            path: the file.
            modified_before: seconds since 1970. A file that is younger stays.

        Returns:
            False if it stays, or if there is none.
        """
        target, waiting = self._root / path, self._root / UNFINISHED
        aside = waiting / f"{path.replace('/', _ASIDE)}{_ASIDE}{secrets.token_hex(8)}"
        try:
            if modified_before is None:
                target.unlink()
                return True
            if target.stat().st_mtime >= modified_before:
                return False
            self._make(waiting)
            target.rename(aside)
            if aside.stat().st_mtime >= modified_before:
                _put_back(aside, target)
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        return True

    def now(self) -> float:
        """Seconds since 1970 by the clock that sets modification times. A file server has its own one."""
        made = self._root / UNFINISHED / secrets.token_hex(16)
        self._make(made.parent)
        opened = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return os.fstat(opened).st_mtime
        finally:
            os.close(opened)
            made.unlink(missing_ok=True)

    def recover(self) -> None:
        """Puts back what a `remove` that was killed had set aside. `remove` decides about it again."""
        for path, _, _ in self.files(UNFINISHED):
            name = path.removeprefix(f"{UNFINISHED}/").rpartition(_ASIDE)[0].replace(_ASIDE, "/")
            if name_of(name) is not None:
                _put_back(self._root / path, self._root / name)


def _put_back(aside: Path, target: Path) -> None:
    """Gives a file its name again, unless a publisher has written another one: that one is younger."""
    try:
        os.link(aside, target)
    except (FileExistsError, FileNotFoundError):
        pass
    except OSError:  # a file system without links
        if not target.exists():
            aside.rename(target)
    aside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


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
