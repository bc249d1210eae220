"""Sets up schema files and the registry, when a process that reads records starts."""

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

_fetchers: Final[dict[tuple[object, str], SchemaFetcher]] = {}
_lock: Final = threading.Lock()


def attach(settings: Settings, resolver: Resolver = schemas.known) -> SchemaFetcher | None:
    """Adds the schemas of ``schemas.files`` and of the disk cache, and has unknown ones fetched from the
    registry.

    Makes no request. A second call with the same settings returns the same fetcher.

    Args:
        settings: The process's settings.
        resolver: Where schemas are added.

    Returns:
        The fetcher; None if registry.url is not set.

    Raises:
        ConfigError: A schema file does not exist, or cannot be read as one of our records.
    """
    for name in settings.schemas.files:
        read_file(name, resolver)
    if not settings.registry.url:
        return None
    subject = subject_of(settings)
    with _lock:
        fetcher = _fetchers.get((settings.registry, subject)) if resolver is schemas.known else None
        if fetcher is None:
            cache = Cache(folder(settings.registry.cache_dir, settings.registry.url))
            fetcher = SchemaFetcher(Client(settings.registry), cache, resolver, subject)
            fetcher.load()
            if resolver is schemas.known:
                _fetchers[settings.registry, subject] = fetcher
    resolver.want = fetcher.want
    return fetcher


def read_file(name: str, resolver: Resolver) -> Known:
    """Adds the schema of one file. Raises `ConfigError`."""
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"schemas.files: {name}: {getattr(e, 'strerror', None) or 'is not UTF-8'}"
        ) from None
    entry = learn(resolver, text)
    if isinstance(entry, DecodeError):
        raise ConfigError(f"schemas.files: {name}: {entry.detail}")
    return entry
