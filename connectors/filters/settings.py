"""The filter settings of a sink instance (part of the table [sinks.<name>]), and parsing them from text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from connectors.sdk.contract import Secret
from tailrace.errors import ConfigError
from tailrace.settings import pairs


class FilterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records a sink gets, and which of their content.

    Lists hold names to keep, or names with ! in front to leave out.
    """

    tenants: tuple[str, ...] = ()
    """Tenant ids; empty: all."""
    apps: tuple[str, ...] = ()
    """Application ids: of the trace's root if it is known, else of the event."""
    environments: tuple[str, ...] = ()
    """Deployment environments."""
    drop_kinds: tuple[str, ...] = ()
    """Kinds to leave out."""
    sample: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Share of traces to keep; decided for whole traces, by their root's id."""
    content: str | dict[str, str] = "full"
    """full, masked, hashed, reference or none; or a table field -> one of them."""
    mask: tuple[str, ...] | None = None
    """Built-in masks to use; default: all."""
    mask_patterns: dict[str, str] = {}
    """Name -> regular expression of additional masks."""
    hash_key: Secret = ""
    """Turns hashes into HMACs."""


def from_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `FilterSettings` from variables and flags.

    Lists are written ``a,b``, tables ``a=b,c=d``, or nested by the dots of --set. Raises `ConfigError`.
    """
    out = dict(values)
    for name in ("tenants", "apps", "environments", "drop_kinds", "mask"):
        if isinstance(text := out.get(name), str):
            out[name] = [part.strip() for part in text.split(",") if part.strip()]
    for name in ("content", "mask_patterns"):
        value = out.get(name)
        if isinstance(value, str) and (name != "content" or "=" in value):
            try:
                out[name] = pairs(value)
            except ValueError as e:
                raise ConfigError(f"{name}: {e}") from None
        elif name == "content" and isinstance(value, Mapping):
            out[name] = _paths(value)
    return out


def _paths(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"tool": {"tool_inputs": "none"}} -> {"tool.tool_inputs": "none"}."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= _paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out
