"""Settings of type `Secret`: finding them, their values, and the files that may hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from tailrace.errors import ConfigError

SUFFIX = "_file"


def is_secret(kind: Any) -> bool:
    """Whether a type is `Secret`, may be one (``Secret | None``), or holds them (``dict[str, Secret]``)."""
    if get_origin(kind) is Annotated:
        extras = (m.extra or {} for m in kind.__metadata__ if isinstance(m, msgspec.Meta))
        return any(extra.get("secret") for extra in extras) or is_secret(kind.__origin__)
    return any(is_secret(part) for part in get_args(kind))


def is_text(kind: Any) -> bool:
    """Whether a secret type is a single text, which a file can hold."""
    return get_origin(kind) is Annotated or all(
        part is type(None) or get_origin(part) is Annotated for part in get_args(kind)
    )


def from_files(table: Mapping[str, Any], settings: type[msgspec.Struct], where: str) -> dict[str, Any]:
    """`table`, with each ``<secret>_file`` replaced by the file's text, without surrounding white space.

    Args:
        where: the table's name, for messages.

    Raises:
        ConfigError: a secret is set in both ways, or its file is empty or cannot be read.
    """
    out = dict(table)
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(settings)}
    for name, kind in fields.items():
        key = name + SUFFIX
        if key in fields or key not in out or not (is_secret(kind) and is_text(kind)):
            continue
        path = out.pop(key)
        if name in out:
            raise ConfigError(f"{where}: {name} and {key} are both set; remove one of them")
        try:
            value = Path(str(path)).read_text(encoding="utf-8").strip()
        except OSError as e:
            raise ConfigError(f"{where}.{key}: {e.strerror or type(e).__name__}") from None
        except ValueError:
            raise ConfigError(f"{where}.{key}: the file is not UTF-8 text") from None
        if not value:
            raise ConfigError(f"{where}.{key}: the file is empty")
        out[name] = value
    return out


def values_of(settings: msgspec.Struct) -> tuple[str, ...]:
    """All secret values of a settings struct."""
    found: list[str] = []
    for field in msgspec.structs.fields(settings):
        if is_secret(field.type):
            _collect(getattr(settings, field.name), found)
    return tuple(dict.fromkeys(found))


def _collect(value: Any, found: list[str]) -> None:
    if isinstance(value, str):
        if value:
            found.append(value)
    elif isinstance(value, Mapping):
        for part in value.values():
            _collect(part, found)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            _collect(part, found)
