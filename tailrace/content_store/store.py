"""A content store: where publishers put what is too large for an event, and where sinks get it from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

from tailrace.content_store.folder import UNFINISHED, Folder
from tailrace.content_store.naming import content_hash, name_of, path_in, path_of
from tailrace.errors import ConfigError, ContentDamaged, ContentMissing, ContentUnreachable
from tailrace.settings import Content

_LOGIN: Final = re.compile(r"://[^\s/@'\"]*:[^\s/@'\"]*@")
"""Name and password in a URL."""
_QUERY: Final = re.compile(r"(?<=[^\s?])\?[^\s'\"?]*=[^\s'\"]*")
"""Parameters of a URL, among which a library may have put a signature or a token."""
_PART: Final = re.compile(r"[^;&,\s=]{12,}=*")
"""A part of an option with several, such as a connection string."""
_LOCAL: Final = re.compile(r"(?:file|local)://(?:localhost)?(?=/)")


class Stored(NamedTuple):
    """One content in a store."""

    folder: str
    """The tenant's: `tailrace.content_store.naming.folder_of`."""
    hash: str
    modified_at: float
    """When it was written or put again last, seconds since 1970, by the store's clock."""
    bytes: int


class Files(Protocol):
    """What a store needs of a file system; `Folder` has the contract."""

    def write(self, path: str, data: bytes) -> None: ...
    def refresh(self, path: str, size: int) -> bool: ...
    def read(self, path: str, most: int) -> bytes: ...
    def files(self, folder: str = "") -> Iterator[tuple[str, float, int]]: ...
    def remove(self, path: str, modified_before: float | None = None) -> bool: ...
    def now(self) -> float: ...
    def recover(self) -> None: ...


class ContentStore:
    """Content by tenant and hash. All calls block, some for as long as the network does: use a thread.

    Threads may share a store. After a fork, open another one. Every method that speaks to the store raises
    `ContentUnreachable`, which is an OSError, if that fails for another reason than those that it names.

    Args:
        files: where the content is.
        secrets: texts that no error may show.
    """

    def __init__(self, files: Files, secrets: tuple[str, ...] = ()) -> None:
        self._files, self._secrets = files, secrets

    def put(self, tenant_id: str | None, data: bytes) -> str:
        """Stores content, unless it is there; then its modification time is refreshed, for the sweep.

        When this returns, every reader finds all of it. A kill at any moment leaves all or nothing.

        Args:
            tenant_id: whose it is; None: no tenant's.
            data: the content.

        Returns:
            Its hash.
        """
        name = content_hash(data)
        path = path_of(tenant_id, name)
        try:
            if not self._files.refresh(path, len(data)):
                self._files.write(path, data)
        except Exception as e:
            raise self._unreachable("written", e) from None
        return name

    def get(self, tenant_id: str | None, hash: str, most: int | None = None) -> bytes:
        """The content with a hash.

        Args:
            tenant_id: whose it is.
            hash: its name.
            most: the bytes that are read at most. Content with more is damaged.

        Raises:
            ContentMissing: it is not there, or `hash` is not a hash.
            ContentDamaged: what is there has another hash.
        """
        try:
            path = path_of(tenant_id, hash)
        except ValueError as e:
            raise ContentMissing(f"content_refs.hash: {e}") from None
        try:
            data = self._files.read(path, -1 if most is None else most + 1)
        except FileNotFoundError:
            raise ContentMissing(f"{path} is not in content.store") from None
        except Exception as e:
            raise self._unreachable("read", e) from None
        if (most is not None and len(data) > most) or content_hash(data) != hash:
            raise ContentDamaged(f"{path} in content.store is not what its name says")
        return data

    def names(self) -> Iterator[Stored]:
        """All content, in no order. What is put or deleted meanwhile may be among it or not.

        Files that no content store made are left out, and so is what a killed publisher left unfinished:
        `remove_unfinished`.
        """
        try:
            for path, modified_at, size in self._files.files():
                found = name_of(path)
                if found is not None:
                    yield Stored(found.folder, found.hash, modified_at, size)
        except Exception as e:
            raise self._unreachable("listed", e) from None

    def delete(self, folder: str, hash: str, modified_before: float | None = None) -> bool:
        """Deletes content.

        Args:
            folder: the tenant's, as `names` gives it.
            hash: its hash.
            modified_before: seconds since 1970. Content that was put again since stays; in a folder also
                if that happens at the same time. At a URL it is looked at just before it is deleted: a
                publisher that puts it between these two requests loses it.

        Returns:
            Whether it was deleted; False also if it was not there.

        Raises:
            ValueError: `folder` or `hash` does not have its form.
        """
        path = path_in(folder, hash)
        try:
            return self._files.remove(path, modified_before)
        except Exception as e:
            raise self._unreachable("deleted", e) from None

    def now(self) -> float:
        """The time by the store's own clock, seconds since 1970, which `Stored.modified_at` goes by.

        Writes and removes a file, to see it.
        """
        try:
            return self._files.now()
        except Exception as e:
            raise self._unreachable("written", e) from None

    def recover(self) -> None:
        """Puts back content that a sweep was killed at. Call it before `names` of another sweep."""
        try:
            self._files.recover()
        except Exception as e:
            raise self._unreachable("listed", e) from None

    def remove_unfinished(self, modified_before: float) -> int:
        """Removes what publishers that were killed did not finish to write.

        Args:
            modified_before: seconds since 1970; what is younger may still be written.

        Returns:
            How many files it were.
        """
        count = 0
        try:
            for path, modified_at, _ in self._files.files(UNFINISHED):
                if modified_at < modified_before and self._files.remove(path):
                    count += 1
        except Exception as e:
            raise self._unreachable("deleted", e) from None
        return count

    def _unreachable(self, what: str, error: Exception) -> ContentUnreachable:
        if isinstance(error, ContentUnreachable):
            return error
        said = _QUERY.sub("?***", _LOGIN.sub("://***@", str(error)[:4000]))
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return ContentUnreachable(f"content.store cannot be {what}: {type(error).__name__}: {said[:500]}")


def is_folder(store: str) -> bool:
    """Whether `content.store` is a folder: a path, or a URL of one."""
    return "://" not in _LOCAL.sub("", store)


def check_store(settings: Content) -> None:
    """Raises what `open_store` would raise about packages, without a connection. No store is no error.

    Raises:
        ConfigError: fsspec does not know the protocol.
        MissingPackage: a package is not installed; names it or the extra.
    """
    if settings.store and not is_folder(settings.store):
        from tailrace.content_store.remote import check

        check(settings.store)


def open_store(settings: Content) -> ContentStore:
    """The store that the settings name. Nothing is written or asked yet.

    A folder needs no package; a URL needs fsspec and the package of its protocol.

    Raises:
        ConfigError: `content.store` is empty or not valid.
        MissingPackage: a package is not installed; names it or the extra.
    """
    if not settings.store:
        raise ConfigError("content.store: is empty; set it to a folder that all hosts share, or to a URL")
    if is_folder(settings.store):
        return ContentStore(Folder(Path(_LOCAL.sub("", settings.store)).expanduser()))
    from tailrace.content_store.remote import Remote

    return ContentStore(
        Remote(settings.store, settings.storage_options), _secrets(settings.storage_options.values())
    )


def _secrets(options: Iterable[str]) -> tuple[str, ...]:
    """What no error may show of the options: each whole, its parts, and as a URL has it; longest first."""
    found = {v for v in options if len(v) > 3}
    found |= {part for v in found for part in _PART.findall(v)}
    found |= {quote(v, safe="") for v in found}
    return tuple(sorted(found, key=len, reverse=True))
