"""A content store at a URL, through fsspec: object stores, and file systems that a library speaks to."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tailrace.content_store.folder import UNFINISHED
from tailrace.errors import ConfigError, MissingPackage

_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory"})
"""Protocols of stores that show an object only when it is complete. In others it is renamed."""
_TIMES: Final = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""Where the information about a file has its modification time, by library."""
_FRESH: Final = 1800.0
"""Seconds for which an object is not written again. Object stores cannot set its modification time."""


def options_of(given: Mapping[str, str]) -> dict[str, Any]:
    """`content.storage_options` as fsspec takes them.

    A dot in a name makes a nested table, `true` and `false` become booleans; other values stay text.
    """
    found: dict[str, Any] = {}
    for path, value in given.items():
        table = found
        *outer, name = path.split(".")
        for part in outer:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"content.storage_options: {path}: {part} is a value and a table")
            table = inner
        table[name] = {"true": True, "false": False}.get(value, value)
    return found


def check(url: str) -> None:
    """Raises `MissingPackage` or `ConfigError` if the URL's protocol cannot be used here."""
    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        from fsspec import get_filesystem_class
    except ImportError:
        raise MissingPackage("content.store needs fsspec: pip install 'tailrace[content]'") from None
    try:
        get_filesystem_class(protocol)
    except ImportError as e:
        raise MissingPackage(f"content.store: {protocol}:// needs another package: {e}") from None
    except ValueError:
        raise ConfigError(
            f"content.store: {protocol}:// is not a protocol that fsspec knows; for example s3://bucket/folder"
        ) from None


class Remote:
    """Objects below a URL. Arguments and errors are those of `Folder`, and whatever the library raises.

    Args:
        url: with its protocol.
        options: `content.storage_options`.
        now: seconds since 1970.

    Raises:
        MissingPackage: fsspec is not installed, or the package for this protocol.
        ConfigError: fsspec does not know the protocol, or the library refuses the options.
    """

    def __init__(self, url: str, options: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        protocol = url.partition("://")[0]
        given = options_of(options)
        check(url)
        from fsspec.core import url_to_fs

        try:
            self._fs, root = url_to_fs(url, **given)
        except Exception as e:  # what it says may hold a secret
            raise ConfigError(
                f"content.store: {protocol}:// cannot be used with these content.storage_options: "
                f"{type(e).__name__}"
            ) from None
        self._root, self._now = str(root).rstrip("/"), now
        self._whole = protocol in _WHOLE

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def write(self, path: str, data: bytes) -> None:
        target = self._at(path)
        if self._whole:
            self._fs.pipe_file(target, data)
            return
        unfinished = f"{UNFINISHED}/{secrets.token_hex(16)}"
        made = self._at(unfinished)
        self._fs.makedirs(made.rpartition("/")[0], exist_ok=True)
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        try:
            self._fs.pipe_file(made, data)
            self._move(made, target)
        except BaseException:
            with contextlib.suppress(Exception):
                self.remove(unfinished)
            raise

    def _move(self, made: str, target: str) -> None:
        try:
            self._fs.mv(made, target)
        except Exception:
            if not self._fs.exists(target):
                raise
            self._fs.rm_file(target)  # some do not rename to a name that there is: it has the same content
            self._fs.mv(made, target)

    def refresh(self, path: str, size: int) -> bool:
        """Whether an object is there, with this size, and young enough. If not it is to be written again."""
        found = self._info(path)
        if found is None or found.get("size") != size:
            return False
        modified = self._modified(found)
        return modified is not None and self._now() - modified < _FRESH

    def read(self, path: str, most: int) -> bytes:
        # a negative end would count from the end of the object
        found = self._fs.cat_file(self._at(path), start=0, end=most if most >= 0 else None)
        return found if isinstance(found, bytes) else bytes(found)

    def files(self, folder: str = "") -> Iterator[tuple[str, float, int]]:
        yield from self._below(self._at(folder) if folder else self._root)

    def _below(self, folder: str) -> Iterator[tuple[str, float, int]]:
        try:
            self._fs.invalidate_cache(folder)
            entries = self._fs.ls(folder, detail=True)
        except FileNotFoundError:
            return
        for entry in entries:
            name = str(entry["name"]).rstrip("/")
            if entry.get("type") == "directory":
                if name.rpartition("/")[2] and name != folder:
                    yield from self._below(name)
                continue
            modified = self._modified(entry)
            path = name.lstrip("/").removeprefix(self._root.lstrip("/")).lstrip("/")
            # a time that is not known is now: the object is too young to be swept
            yield path, self._now() if modified is None else modified, int(entry.get("size") or 0)

    def remove(self, path: str, modified_before: float | None = None) -> bool:
        if modified_before is not None:
            found = self._info(path)
            modified = None if found is None else self._modified(found)
            # a time that is not known is now
            if modified is None or modified >= modified_before:
                return False
        elif self._info(path) is None:
            return False
        try:
            self._fs.rm_file(self._at(path))
        except FileNotFoundError:
            return False
        return True

    def now(self) -> float:
        made = f"{UNFINISHED}/{secrets.token_hex(16)}"
        if not self._whole:
            self._fs.makedirs(self._at(UNFINISHED), exist_ok=True)
        try:
            self._fs.pipe_file(self._at(made), b".")
            modified = self._modified(self._info(made) or {})
        finally:
            self.remove(made)
        return self._now() if modified is None else modified

    def recover(self) -> None:
        """Nothing is ever set aside here."""

    def _info(self, path: str) -> dict[str, Any] | None:
        target = self._at(path)
        try:
            self._fs.invalidate_cache(target.rpartition("/")[0])
            found: dict[str, Any] = self._fs.info(target)
        except FileNotFoundError:
            return None
        return found

    def _modified(self, found: Mapping[str, Any]) -> float | None:
        for name in _TIMES:
            value = found.get(name)
            if isinstance(value, str):
                try:
                    value = datetime.fromisoformat(value)
                except ValueError:
                    continue
            if isinstance(value, datetime):
                return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        return None
