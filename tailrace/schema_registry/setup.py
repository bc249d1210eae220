"""What a process that reads attaches at its start: schema files, and the registry where there is one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from tailrace.codec import schemas
from tailrace.codec.schemas import Known, Resolver
from tailrace.errors import ConfigError, DecodeError
from tailrace.schema_registry.cache import Cache, folder
from tailrace.schema_registry.client import Client
from tailrace.schema_registry.fetcher import SchemaFetcher, learn
from tailrace.schema_registry.subjects import subject_of
from tailrace.settings import Settings

_sources: Final[dict[tuple[object, str], SchemaFetcher]] = {}
_lock: Final = threading.Lock()


def attach(settings: Settings, resolver: Resolver = schemas.known) -> SchemaFetcher | None:
    """Makes the schemas of ``schemas.files`` known, and those on disk, and lets readers that miss one ask the
    registry. A second call with the same settings gives the same source. None: no registry is set. No request
    is made here.

    Raises `ConfigError`: a file that is not there, or whose schema cannot be read as ours; it names the
    field."""
    for name in settings.schemas.files:
        read_file(name, resolver)
    if not settings.registry.url:
        return None
    subject = subject_of(settings)
    with _lock:
        found = _sources.get((settings.registry, subject)) if resolver is schemas.known else None
        if found is None:
            cache = Cache(folder(settings.registry.cache_dir, settings.registry.url))
            found = SchemaFetcher(Client(settings.registry), cache, resolver, subject)
            found.load()
            if resolver is schemas.known:
                _sources[settings.registry, subject] = found
    resolver.want = found.want
    return found


def read_file(name: str, resolver: Resolver) -> Known:
    """Makes one file's schema known. Raises `ConfigError`."""
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"schemas.files: {name}: {getattr(e, 'strerror', None) or 'is not UTF-8'}"
        ) from None
    found = learn(resolver, text)
    if isinstance(found, DecodeError):
        raise ConfigError(f"schemas.files: {name}: {found.detail}")
    return found
