"""Names of content in a store: a folder for each tenant, and in it the hash of the content. Pure.

The same content of a tenant has the same path. A tenant cannot name the folder of another one, that of
events without a tenant, or anything outside of the store.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

ALGORITHM: Final = "sha256"
NO_TENANT: Final = "none"
"""Folder of content without a tenant. The folders of tenants begin with `t-` or `h-`."""
LONGEST: Final = 120
"""Most characters of a tenant in the name of its folder; of a longer one it is the hash."""
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_FOLDER: Final = re.compile(r"none|t-[a-z0-9_.=A-F-]+|h-[0-9a-f]{64}")
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_.-")


class Name(NamedTuple):
    """What a path says."""

    folder: str
    """Folder of the tenant."""
    hash: str


def content_hash(data: bytes) -> str:
    """The name of content: `sha256:` and 64 hexadecimal digits."""
    return f"{ALGORITHM}:{hashlib.sha256(data).hexdigest()}"


def is_hash(text: str) -> bool:
    """Whether a text has the form of `content_hash`."""
    return _HASH.fullmatch(text) is not None


def folder_of(tenant_id: str | None) -> str:
    """The folder of a tenant's content; None and the empty text are no tenant.

    Letters in lower case, digits and `_.-` stay. Every other byte of UTF-8 becomes `=` and two
    hexadecimal digits: file systems that ignore case keep tenants apart.
    """
    if not tenant_id:
        return NO_TENANT
    raw = tenant_id.encode("utf-8", "surrogatepass")
    text = "".join(chr(b) if b in _PLAIN else f"={b:02X}" for b in raw)
    return f"t-{text}" if len(text) <= LONGEST else f"h-{hashlib.sha256(raw).hexdigest()}"


def path_of(tenant_id: str | None, hash: str) -> str:
    """The path of content in its store, relative and with `/`.

    Args:
        tenant_id: the tenant, or None.
        hash: as `content_hash` returns it.

    Raises:
        ValueError: `hash` does not have that form.
    """
    return path_in(folder_of(tenant_id), hash)


def path_in(folder: str, hash: str) -> str:
    """As `path_of`, for a folder that `folder_of` has named.

    Raises:
        ValueError: one of them does not have its form.
    """
    found = _HASH.fullmatch(hash)
    if found is None:
        raise ValueError("is not a hash of content; for example sha256: and 64 hexadecimal digits")
    if _FOLDER.fullmatch(folder) is None:
        raise ValueError("is not the folder of a tenant in a content store")
    return f"{folder}/{found[1][:2]}/{found[1]}"


def name_of(path: str) -> Name | None:
    """What a path in a store holds; None if `path_of` did not make it."""
    parts = path.split("/")
    if len(parts) != 3 or not _FOLDER.fullmatch(parts[0]) or not _HEX.fullmatch(parts[2]):
        return None
    return Name(parts[0], f"{ALGORITHM}:{parts[2]}") if parts[2].startswith(parts[1]) else None
