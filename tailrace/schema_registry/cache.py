"""Caches schemas on disk, so that known ids can be read while the registry does not answer.

The schema of an id never changes, so nothing in the cache becomes outdated.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

log: Final = logging.getLogger("tailrace.schema_registry")


def folder(cache_dir: str, url: str) -> Path:
    """The cache folder of one registry.

    Args:
        cache_dir: The setting registry.cache_dir; empty: the user's cache folder.
        url: The registry's URL.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(cache_dir) if cache_dir else Path(home) / "tailrace" / "registry"
    return root / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


class Cache:
    """The cache of one registry. Processes may share its folder.

    Never raises: if the folder cannot be written, this is logged once, and nothing is cached.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = False

    def schema(self, schema_id: int) -> str | None:
        """The schema of an id; None if it is not cached."""
        return self._read(f"{schema_id}.avsc")

    def keep(self, schema_id: int, schema: str) -> None:
        """Caches the schema of an id."""
        self._write(f"{schema_id}.avsc", schema)

    def schemas(self) -> Iterator[tuple[int, str]]:
        """Ids and schemas of all cached schemas."""
        try:
            names = sorted(p.stem for p in self.path.glob("*.avsc") if p.stem.isascii() and p.stem.isdigit())
        except OSError:
            return
        for name in names:
            schema = self.schema(int(name))
            if schema is not None and int(name) < 1 << 32:
                yield int(name), schema

    def written_as(self, subject: str, fingerprint: bytes) -> int | None:
        """The id with which a schema was last registered under a subject; None if it is not cached."""
        text = self._read(_id_file(subject, fingerprint))
        return int(text) if text and text.isascii() and text.isdigit() and int(text) < 1 << 32 else None

    def keep_written_as(self, subject: str, fingerprint: bytes, schema_id: int) -> None:
        """Caches the id with which a schema is registered under a subject."""
        self._write(_id_file(subject, fingerprint), str(schema_id))

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _write(self, name: str, text: str) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self.path, prefix=".")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(draft).replace(self.path / name)
        except OSError as e:
            if not self._warned:
                log.warning(
                    "registry.cache_dir: %s cannot be written: %s; schemas are kept in memory only",
                    self.path,
                    e.strerror or e,
                )
            self._warned = True


def _id_file(subject: str, fingerprint: bytes) -> str:
    return f"{hashlib.sha256(subject.encode()).hexdigest()[:16]}-{fingerprint.hex()}.id"
