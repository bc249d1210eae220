"""Installed sinks by name, and sink instances as the settings configure them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from connectors.config import secrets as secret_settings
from connectors.content.refs import PATHS, fetched_paths
from connectors.delivery.batching import BatchLimits
from connectors.delivery.dead_letter_limits import LIMITS, DeadLetterLimits
from connectors.delivery.gate import FAILURES
from connectors.filters.record_filter import Admit, RecordFilter, current
from connectors.filters.settings import FilterSettings, from_text
from connectors.sdk import redact
from connectors.sdk.contract import NO_RATES, Rates, Sink, Spec, spec_of
from tailrace.errors import ConfigError, MissingPackage
from tailrace.settings import Positive, Settings, convert, merge, pairs, read_files

GROUP: Final = "tailrace.sinks"
Count = Annotated[int, msgspec.Meta(ge=0)]


class Common(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that every instance has in addition to the sink's own."""

    type: str
    """Sink type; default: the instance's name."""
    max_records: Positive
    """Records per request."""
    max_bytes: Positive
    """Payload bytes per request, before compression."""
    events_per_minute: Count = 0
    """Events that one process sends per minute at most; 0: no limit. Default: the sink's."""
    requests_per_minute: Count = 0
    """Requests that one process sends per minute at most; 0: no limit. Default: the sink's."""
    dead_letter_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = LIMITS.ratio
    """Largest share of dead letters among recent records; above it the sink pauses. 0: no limit."""
    dead_letter_consecutive: Count = LIMITS.consecutive
    """Most dead letters in a row; above it the sink pauses. 0: no limit."""
    circuit_failures: Count = FAILURES
    """Consecutive requests without an answer or with 5xx after which only probes are sent. 0: never."""


class Instance(msgspec.Struct, frozen=True):
    """One configured sink."""

    name: str
    type: str
    sink: Sink
    limits: BatchLimits
    fields: frozenset[str] | None
    ca_file: str | None = None
    """Certificate authorities of its HTTPS endpoint, from the sink's `ca_file`; None: the system's."""
    cert_file: str | None = None
    key_file: str | None = None
    """Client certificate and key, from the sink's settings of these names."""
    admit: Admit = current
    """Filters, reparenting and content policy, applied to a record before `map`."""
    rates: Rates = NO_RATES
    dead_letters: DeadLetterLimits = LIMITS
    circuit_failures: int = FAILURES
    fetched: frozenset[str] = PATHS
    """Paths whose content is fetched if it is stored outside the event: those that the sink decodes, without
    those that its content policy removes."""
    cut_to: int = 0
    """Bytes to which the payload of a record with stored content is cut; 0: it is not cut."""
    secrets: tuple[str, ...] = ()
    """Values that must not appear in logs or in anything stored."""
    fingerprint: bytes = b""
    """Differs between instances whose settings differ, including secret files."""
    reload: Callable[[Instance], Instance | None] | None = None
    """Reads the settings again: the new instance, or None if nothing changed. Raises `ConfigError`."""

    def __repr__(self) -> str:
        return f"Instance({self.name!r}, {self.type!r})"


class Prepared(msgspec.Struct, frozen=True):
    """The checked settings of an instance, before the sink is created."""

    cls: type[Any]
    spec: Spec
    common: Common
    admission: RecordFilter
    rates: dict[str, int]
    """The rates that the settings set."""
    own: msgspec.Struct
    secrets: tuple[str, ...]
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"Prepared({self.spec.name!r})"


def installed() -> dict[str, EntryPoint]:
    """Sink type -> its entry point. Nothing is imported."""
    return {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def sink_class(name: str, where: str) -> type[Any]:
    """The class of a sink type.

    Raises:
        ConfigError: the type does not exist (the message lists the known ones) or cannot be loaded.
        MissingPackage: it needs a package that is not installed.
    """
    found = installed()
    if name not in found:
        raise ConfigError(
            f"{where}: there is no sink {name!r}; known are "
            f"{', '.join(found) or 'none (is tailrace installed?)'}"
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
    """Converts text for a table setting (``a=b,c=d``, as in variables and flags) to the table."""
    out = dict(values)
    for field in msgspec.structs.fields(cls):
        value = out.get(field.name)
        if isinstance(value, str) and str(field.type).startswith("dict"):
            try:
                out[field.name] = pairs(value)
            except ValueError as e:
                raise ConfigError(f"{where}.{field.name}: {e}") from None
    return out


def prepare(settings: Settings, name: str, env: Mapping[str, str] | None = None) -> Prepared:
    """The settings of the instance `name`, with its secret files read.

    Raises:
        ConfigError: names the setting, never a value.
    """
    where = f"sinks.{name}"
    table = read_files(settings.sinks.get(name, {}))
    cls = sink_class(str(table.get("type", name)), where)
    spec = spec_of(cls)
    shared = (*Common.__struct_fields__, *(f"{k}_file" for k in Common.__struct_fields__))
    given = secret_settings.from_files({k: table.pop(k) for k in shared if k in table}, Common, where)
    defaults = {"type": spec.name, "max_records": spec.max_records, "max_bytes": spec.max_bytes}
    try:
        common = convert(from_text(defaults | given), Common, where)
        admission = RecordFilter(common)
    except ConfigError as e:
        raise ConfigError(str(e) if str(e).startswith(where) else f"{where}.{e}") from None
    rates = {k: getattr(common, k) for k in Rates.__struct_fields__ if k in given}
    table = secret_settings.from_files(table, spec.settings, where)
    values = merge(spec.environment(os.environ if env is None else env), table)
    own = convert(_tables(values, spec.settings, where), spec.settings, where)
    everything = (msgspec.to_builtins(common), msgspec.to_builtins(own), settings.connect.max_age_ms)
    fingerprint = hashlib.sha256(msgspec.json.encode(everything, order="deterministic")).digest()
    secrets = (*secret_settings.values_of(common), *secret_settings.values_of(own))
    return Prepared(cls, spec, common, admission, rates, own, secrets, fingerprint)


def build(settings: Settings, name: str, found: Prepared) -> Instance:
    """Creates the sink.

    Raises:
        ConfigError: names the setting, never a secret.
    """
    where = f"sinks.{name}"
    try:
        made: Sink = found.cls(found.own)
    except ConfigError as e:
        raise ConfigError(redact.masked(f"{where}.{e}", found.secrets)) from None
    except Exception as e:  # its message may quote a setting
        raise ConfigError(
            f"{where}: the sink cannot be created from these settings: {redact.where(e)}"
        ) from None
    common, own = found.common, found.own
    rates = getattr(made, "rates", found.spec.rates)
    fields = None if found.spec.fields is None else found.spec.fields | found.admission.reads
    return Instance(
        name,
        found.spec.name,
        made,
        BatchLimits(common.max_records, common.max_bytes, settings.connect.max_age_ms / 1000),
        fields,
        getattr(own, "ca_file", None),
        getattr(own, "cert_file", None),
        getattr(own, "key_file", None),
        found.admission.admit,
        msgspec.structs.replace(rates if isinstance(rates, Rates) else found.spec.rates, **found.rates),
        DeadLetterLimits(common.dead_letter_ratio, common.dead_letter_consecutive),
        common.circuit_failures,
        fetched_paths(fields, found.admission.removed),
        common.max_bytes if found.spec.cut else 0,
        found.secrets,
        found.fingerprint,
    )


def instance(
    settings: Settings,
    name: str,
    env: Mapping[str, str] | None = None,
    read: Callable[[], Settings] | None = None,
) -> Instance:
    """The instance `name` (``[sinks.<name>]``), ready to run.

    Args:
        read: reads its settings again, from where they came.

    Raises:
        ConfigError: names the setting.
    """

    def reload(now: Instance) -> Instance | None:
        assert read is not None
        fresh = read()
        found = prepare(fresh, name, env)
        if found.fingerprint == now.fingerprint:
            return None
        if found.spec.name != now.type:
            raise ConfigError(f"sinks.{name}.type: has changed; restart the process")
        return msgspec.structs.replace(build(fresh, name, found), reload=now.reload)

    made = build(settings, name, prepare(settings, name, env))
    return made if read is None else msgspec.structs.replace(made, reload=reload)


def instances(
    settings: Settings,
    names: Iterable[str],
    env: Mapping[str, str] | None = None,
    read: Callable[[], Settings] | None = None,
) -> list[Instance]:
    """The named instances, or all instances of the settings if none is named. Raises `ConfigError`."""
    chosen = list(dict.fromkeys(names)) or list(settings.sinks)
    if not chosen:
        raise ConfigError(
            f"no sink is configured; name one of {', '.join(installed())}, "
            "or add a table [sinks.<name>] to the settings"
        )
    return [instance(settings, name, env, read) for name in chosen]


def problems(settings: Settings) -> Iterator[str]:
    """What is wrong with the configured instances; for `tailrace check`.

    Raises:
        MissingPackage: a sink needs a package that is not installed. Raised after the others were
            checked.
    """
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
    """A sink's settings: name, type, default.

    Required settings have no default; secrets only an empty one.
    """
    found = []
    for field in msgspec.structs.fields(spec.settings):
        secret = secret_settings.is_secret(field.type)
        row: dict[str, Any] = {"name": field.encode_name, "type": _type_name(field.type)}
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if default is not msgspec.NODEFAULT:
            row["default"] = redact.MASK if secret and default else default
        found.append(row)
    return found


def _type_name(kind: Any) -> str:
    if secret_settings.is_secret(kind):
        return "secret" if secret_settings.is_text(kind) else "table of secrets"
    if get_origin(kind) is Annotated:
        return _type_name(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return " | ".join("null" if part is type(None) else _type_name(part) for part in get_args(kind))
    return (
        kind.__name__
        if isinstance(kind, type) and not getattr(kind, "__args__", None)
        else str(kind).replace("typing.", "")
    )
