"""Sinks by name: what is installed, and instances as the settings want them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import msgspec

from connectors.admission import Admission, Admit, current
from connectors.admission_settings import Admitted, from_text
from connectors.batching import Limits
from connectors.contract import Sink, Spec, spec_of
from tailrace.errors import ConfigError, MissingPackage
from tailrace.settings import Positive, Settings, convert, merge, pairs

GROUP: Final = "tailrace.sinks"


class Common(Admitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every instance's table may have beside the sink's own settings."""

    type: str
    """Sink type; default: the instance's name."""
    max_records: Positive
    """Records of one request."""
    max_bytes: Positive
    """Payload bytes of one request, before compression."""


class Instance(msgspec.Struct, frozen=True):
    """One configured sink."""

    name: str
    type: str
    sink: Sink
    limits: Limits
    fields: frozenset[str] | None
    ca_file: str | None = None
    """Certificate authorities of its HTTPS endpoint, from the sink's setting of that name; None: the system's."""
    admit: Admit = current
    """What it gets of a record, before `map`."""


def installed() -> dict[str, EntryPoint]:
    """Sink type -> where it is. Nothing is imported."""
    return {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def sink_class(name: str, where: str) -> type[Any]:
    """The class of a sink type. Raises `ConfigError` that lists the known ones, or `MissingPackage`."""
    found = installed()
    if name not in found:
        raise ConfigError(
            f"{where}: there is no sink {name!r}; known are {', '.join(found) or 'none (is tailrace installed?)'}"
        )
    try:
        cls: type[Any] = found[name].load()
        spec_of(cls)
    except ModuleNotFoundError as e:
        raise MissingPackage(
            f"{where}: sink {name} needs the package {e.name}: pip install 'tailrace[connectors]'"
        ) from None
    except (ImportError, AttributeError, TypeError) as e:
        raise ConfigError(f"{where}: sink {name} at {found[name].value} cannot be loaded: {e}") from None
    return cls


def _tables(values: Mapping[str, Any], cls: type[msgspec.Struct], where: str) -> dict[str, Any]:
    """Text for a table setting (``a=b,c=d``, as variables and flags write it) as the table."""
    out = dict(values)
    for field in msgspec.structs.fields(cls):
        value = out.get(field.name)
        if isinstance(value, str) and str(field.type).startswith("dict"):
            try:
                out[field.name] = pairs(value)
            except ValueError as e:
                raise ConfigError(f"{where}.{field.name}: {e}") from None
    return out


def instance(settings: Settings, name: str, env: Mapping[str, str] | None = None) -> Instance:
    """The instance `name` (``[sinks.<name>]``), ready to run. Raises `ConfigError` that names the setting."""
    where = f"sinks.{name}"
    table = dict(settings.sinks.get(name, {}))
    cls = sink_class(str(table.get("type", name)), where)
    spec = spec_of(cls)
    defaults = {"type": spec.name, "max_records": spec.max_records, "max_bytes": spec.max_bytes}
    shared = {f.name: table.pop(f.name) for f in msgspec.structs.fields(Common) if f.name in table}
    try:
        common = convert(from_text({**defaults, **shared}), Common, where)
        admission = Admission(common)
    except ConfigError as e:
        raise ConfigError(str(e) if str(e).startswith(where) else f"{where}.{e}") from None
    values = merge(spec.environment(os.environ if env is None else env), table)
    own = convert(_tables(values, spec.settings, where), spec.settings, where)
    try:
        made: Sink = cls(own)
    except ConfigError as e:
        raise ConfigError(f"{where}.{e}") from None
    limits = Limits(common.max_records, common.max_bytes, settings.connect.max_age_ms / 1000)
    fields = None if spec.fields is None else spec.fields | admission.reads
    return Instance(name, spec.name, made, limits, fields, getattr(own, "ca_file", None), admission.admit)


def instances(settings: Settings, names: Iterable[str], env: Mapping[str, str] | None = None) -> list[Instance]:
    """Every instance named, or all of the settings if none is. Raises `ConfigError`."""
    chosen = list(dict.fromkeys(names)) or list(settings.sinks)
    if not chosen:
        raise ConfigError(
            f"no sink named; give one of {', '.join(installed())}, or add a table [sinks.<name>] to the settings"
        )
    return [instance(settings, name, env) for name in chosen]


def problems(settings: Settings) -> Iterator[str]:
    """For `tailrace check`: what is wrong with the configured instances. Raises `MissingPackage` after the others were checked."""
    missing: MissingPackage | None = None
    for name in settings.sinks:
        try:
            instance(settings, name)
        except MissingPackage as e:
            missing = e
        except ConfigError as e:
            yield str(e)
    if missing is not None:
        raise missing


def describe(spec: Spec) -> list[dict[str, Any]]:
    """A sink's settings: name, type, default (absent: required)."""
    found = []
    for field in msgspec.structs.fields(spec.settings):
        row: dict[str, Any] = {"name": field.encode_name, "type": _type_name(field.type)}
        if field.default is not msgspec.NODEFAULT:
            row["default"] = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            row["default"] = field.default_factory()
        found.append(row)
    return found


def _type_name(kind: Any) -> str:
    return (
        kind.__name__
        if isinstance(kind, type) and not getattr(kind, "__args__", None)
        else str(kind).replace("typing.", "")
    )
