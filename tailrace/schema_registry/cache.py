"""Schemas by id on disk: what an id means never changes, so that a registry that is away does not matter for
known ids."""

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
    """Where the schemas of one registry are. cache_dir: the setting."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(cache_dir) if cache_dir else Path(home) / "tailrace" / "registry"
    return root / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


class Cache:
    """One registry's folder. Processes may share it. A disk that cannot be written is said once, and does
    without."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._said = False

    def schema(self, schema_id: int) -> str | None:
        return self._read(f"{schema_id}.avsc")

    def keep(self, schema_id: int, schema: str) -> None:
        self._write(f"{schema_id}.avsc", schema)

    def schemas(self) -> Iterator[tuple[int, str]]:
        """All that there are."""
        try:
            names = sorted(p.stem for p in self.path.glob("*.avsc") if p.stem.isascii() and p.stem.isdigit())
        except OSError:
            return
        for name in names:
            schema = self.schema(int(name))
            if schema is not None and int(name) < 1 << 32:
                yield int(name), schema

    def written_as(self, subject: str, fingerprint: bytes) -> int | None:
        """The id that a schema had under a subject."""
        found = self._read(_id_file(subject, fingerprint))
        return int(found) if found and found.isascii() and found.isdigit() and int(found) < 1 << 32 else None

    def keep_written_as(self, subject: str, fingerprint: bytes, schema_id: int) -> None:
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
            if not self._said:
                log.warning(
                    "registry.cache_dir: %s: %s; schemas are kept in memory only", self.path, e.strerror or e
                )
            self._said = True


def _id_file(subject: str, fingerprint: bytes) -> str:
    return f"{hashlib.sha256(subject.encode()).hexdigest()[:16]}-{fingerprint.hex()}.id"
