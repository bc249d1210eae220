"""Settings of every command: `tailrace.toml`, then `TAILRACE_…` variables, then flags; the later one wins.

One struct a section. A variable is ``TAILRACE_<SECTION>_<FIELD>`` (``TAILRACE_KAFKA_BOOTSTRAP_SERVERS``), a
sink's ``TAILRACE_SINKS_<INSTANCE>_<FIELD>``; a variable that ends in ``_FILE`` names a file that holds the
value (but ``CA_FILE``, which is a setting of its own). Tables are written ``key=value,key=value`` in
variables, or one pair a line; lists comma separated."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from tailrace.errors import ConfigError

FILE: Final = "tailrace.toml"
PREFIX: Final = "TAILRACE_"

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

_SERVERS: Final = ("bootstrap.servers", "metadata.broker.list")
_RELIED_ON: Final = frozenset(
    {
        "group.id",
        "group.instance.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "isolation.level",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "transactional.id",
        "partitioner",
        "partition.assignment.strategy",
    }
)
"""Properties of librdkafka that decide whether anything is lost, or arrives twice or out of order."""


def _port(server: str) -> str | None:
    """The port of ``host``, ``host:port``, ``[v6]:port``, ``v6`` or any of them after ``protocol://``; None:
    it has none."""
    host, colon, port = server.rpartition("://")[2].rpartition(":")
    return port if colon and (":" not in host or host.endswith("]")) else None


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bootstrap_servers: str = "127.0.0.1:9092"
    """host:port, comma separated."""
    client: dict[str, str] = {}
    """librdkafka properties, e.g. security.protocol, sasl.mechanism, sasl.username, sasl.password,
    ssl.ca.location; not those that tailrace relies on."""

    def __post_init__(self) -> None:
        servers = [s.strip() for s in self.bootstrap_servers.split(",") if s.strip()]
        if not servers:
            raise ConfigError("kafka.bootstrap_servers: is empty; must be host:port, comma separated")
        for server in servers:
            port = _port(server)
            if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
                raise ConfigError(
                    f"kafka.bootstrap_servers: {server}: the port must be a number from 1 to 65535"
                )
        for key in self.client:
            if key in _SERVERS:
                raise ConfigError(f"kafka.client: {key} cannot be set here; use kafka.bootstrap_servers")
            if key in _RELIED_ON:
                raise ConfigError(f"kafka.client: {key} cannot be set; tailrace relies on its own value")


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prefix: str = "trace."
    """Start of every topic name."""
    partitions: Positive = 4
    """Partitions of each topic, when `tailrace topics create` makes them."""
    replication_factor: Positive = 1
    """Copies of each partition; 3 in production."""
    max_event_bytes: Annotated[int, msgspec.Meta(ge=131_072, le=1_000_000_000)] = 1_000_000
    """Largest record of trace.events; 64 KiB of it are kept free. The internal topics allow more."""


class Publisher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    queue_max_events: Positive = 100_000
    """Events that may wait for the broker in this process."""
    queue_max_bytes: Positive = 256 * 1024 * 1024
    """Bytes that may wait."""
    when_full: Literal["block", "drop", "raise"] = "block"
    """What publish() does when the queue is full: wait up to block_seconds, then raise; drop and count; raise
    at once."""
    block_seconds: Seconds = 5.0
    delivery_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """How long an event may wait for its acknowledgement before it is reported as failed. Kafka down for
    longer loses it."""
    linger_ms: Annotated[int, msgspec.Meta(ge=0)] = 5
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    oversize: Literal["refuse", "truncate"] = "refuse"
    """An event over topics.max_event_bytes: refuse it with the field named, or cut its content fields, with a
    marker."""


class Streams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    app_id: str = "tailrace-streams"
    """Consumer group, and start of the transactional ids."""
    workers: Positive = 1
    """Worker processes under the supervisor."""
    commit_interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 100
    """A unit of work is what arrives on a partition in this time; latency against throughput."""
    unit_records: Positive = 20_000
    unit_bytes: Positive = 32 * 1024 * 1024
    commit_threads: Positive = 2
    """Commits at once; about the number of cores."""
    session_timeout_ms: Annotated[int, msgspec.Meta(ge=1000)] = 6000
    """How long a worker that stopped keeps its partitions."""
    transaction_timeout_ms: Annotated[int, msgspec.Meta(ge=1000)] = 10_000
    trace_idle_minutes: Positive = 15
    """A trace without events for this long leaves the state (by append time)."""
    max_open_traces: Positive = 200_000
    """Open traces a partition; beyond it the oldest are evicted."""
    dedupe_minutes: Positive = 60
    """How long an event id is remembered (by append time)."""
    link_minutes: Positive = 60
    """How long it is remembered under which root a run belongs (by append time); inner runs start within this
    time."""
    metrics_interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 5000
    """How often metric rows, series and summaries are written that have changed."""
    metrics_horizon_hours: Positive = 192
    """How long a minute's row stays open for late events (by append time): the retention of trace.events and
    a day."""
    max_metric_groups: Positive = 10_000
    """Combinations of label values, a kind of event and partition, that are counted apart; further ones as
    `__overflow__`."""
    max_metric_rows: Positive = 500_000
    """Minutes of such combinations that a partition keeps open; beyond it the oldest close."""
    http_host: str = "127.0.0.1"
    """Where /healthz, /readyz and /metrics are served; 0.0.0.0 for probes from outside. Nobody is asked who
    they are."""
    http_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9464
    """Port of a host's first worker, the next one has the next; a taken port is replaced by a free one, see
    the log. 0: none."""
    watchdog_seconds: Seconds = 60.0
    """A worker whose event loop stands still for so long, or that makes no progress on a partition with
    records to read, ends itself and is started again; a take-over may last ten times as long. 0: it never
    does; else at least 5."""

    def __post_init__(self) -> None:
        if 0 < self.watchdog_seconds < 5:
            raise ConfigError("streams.watchdog_seconds: must be 0 (off) or at least 5")


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    group_prefix: str = "tailrace-sink-"
    """The consumer group of a sink is this and the sink's instance name."""
    max_age_ms: Annotated[int, msgspec.Meta(ge=0)] = 200
    """A batch goes out at the latest this long after its first record."""
    commit_interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 500
    session_timeout_ms: Annotated[int, msgspec.Meta(ge=1000)] = 10_000
    drain_seconds: Seconds = 20.0
    """How long a stop or a rebalance may wait for what is under way."""
    max_attempts: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Tries of a batch that the sink asks to retry; 0 is without end: a sink that is down holds its
    partitions."""
    http_host: str = "127.0.0.1"
    """Where /healthz, /readyz and /metrics are served; 0.0.0.0 for probes from outside. Nobody is asked who
    they are."""
    http_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9474
    """The next free port is taken where it is not free, see the log. 0: none."""
    instance_id: str = ""
    """Static member of its groups (group.instance.id): a restart within session_timeout_ms moves no
    partition. Different for each process; empty: none."""


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    """Of a schema registry with Confluent's REST interface, with the path where that is not the root; empty:
    none."""
    user: str = ""
    """Basic authentication, with password."""
    password: str = ""
    token: str = ""
    """Bearer token, instead of user and password."""
    ca_file: str = ""
    """PEM file of the certificate authorities of an https URL; empty: the system's."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """Longest that one request may take."""
    auto_register: bool = True
    """A publisher registers its schema where the subject does not have it; false: it refuses to start."""
    write: Literal["confluent", "single-object"] = "confluent"
    """What publishers write before a value: the registry's schema id, or the schema's fingerprint, as without
    a registry."""
    cache_dir: str = ""
    """Where schemas are kept for good; empty: tailrace/registry in $XDG_CACHE_HOME or ~/.cache."""

    def __post_init__(self) -> None:
        if not self.url:
            return
        scheme, _, rest = self.url.partition("://")
        host = rest.partition("/")[0]
        if scheme not in ("http", "https") or not host or any(c in self.url for c in "?# "):
            raise ConfigError("registry.url: must be http(s)://host[:port][/path]")
        if "@" in host:
            raise ConfigError("registry.url: holds credentials; use registry.user and registry.password")
        if self.token and self.user:
            raise ConfigError("registry.token: cannot go with registry.user; give one of them")

    def __repr__(self) -> str:
        return f"Registry(url={self.url!r}, …)"


class Schemas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: tuple[str, ...] = ()
    """Avro schemas (.avsc) of other publishers, for values that name them by fingerprint."""
    wait_seconds: Seconds = 60.0
    """How long a record may wait for its schema, once a schema; then it is a dead letter `unknown_schema`."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    publisher: Publisher = Publisher()
    streams: Streams = Streams()
    connect: Connect = Connect()
    registry: Registry = Registry()
    schemas: Schemas = Schemas()
    sinks: dict[str, dict[str, Any]] = {}
    """Instance name -> the sink's own settings; `type` names the sink where it is not the instance's name."""


RENAMED: Final = {
    "connect.unknown_schema_seconds": "schemas.wait_seconds",
    "registry.wait_seconds": "schemas.wait_seconds",
}
"""Settings of former versions, and what they are called now."""

T = TypeVar("T", bound=msgspec.Struct)


def convert(values: Mapping[str, Any], cls: type[T], where: str) -> T:
    """`values` as `cls`, text turned into numbers and booleans as needed. Raises `ConfigError` that names the
    setting."""
    try:
        return msgspec.convert(dict(values), cls, strict=False)
    except msgspec.ValidationError as e:
        text = str(e)
        problem, _, path = text.partition(" - at `$")
        path = path.rstrip("`")
        hint = ""
        if "unknown field" in problem:
            section = next((f.type for f in msgspec.structs.fields(cls) if f".{f.name}" == path), cls)
            hint = f"; known are: {', '.join(f.name for f in msgspec.structs.fields(section))}"
            now = RENAMED.get(f"{(where + path).lstrip('.')}.{problem.split('`')[1]}")
            if now is not None:
                hint = f"; it is {now} now ({PREFIX}{now.upper().replace('.', '_')})"
        raise ConfigError(f"{(where + path).lstrip('.') or 'settings'}: {problem}{hint}") from None


def pairs(text: str) -> dict[str, str]:
    """``a=b,c=d``, or a pair a line -> {"a": "b", "c": "d"}. Raises ValueError, which does not say what
    stands there: it may be a secret."""
    out: dict[str, str] = {}
    parts = text.splitlines() if "\n" in text else text.split(",")
    for number, part in enumerate(filter(None, (p.strip() for p in parts)), 1):
        key, sep, value = part.partition("=")
        if not sep or not key.strip():
            raise ValueError(
                f"entry {number} is not key=value (values with a comma: one pair a line, or in {FILE})"
            )
        out[key.strip()] = value.strip()
    return out


def _kind(section: type[Any], field: str) -> str:
    kinds = {f.name: f.type for f in msgspec.structs.fields(section)}
    return str(kinds.get(field, ""))


def _is_table(section: type[Any], field: str) -> bool:
    return _kind(section, field).startswith("dict")


def from_environment(env: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Sections and fields that `TAILRACE_…` variables set. Raises `ConfigError` for one that names no
    section."""
    sections = {f.name: f.type for f in msgspec.structs.fields(Settings)}
    found: dict[str, dict[str, Any]] = {}
    for name, raw in env.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}CONFIG":
            continue
        rest, value = name[len(PREFIX) :].lower(), raw
        section = next((s for s in sections if rest.startswith(s + "_")), None)
        if section is None:
            raise ConfigError(
                f"{name}: no such setting; a variable is {PREFIX}<SECTION>_<FIELD>, sections are "
                f"{', '.join(sections)}"
            )
        field = rest[len(section) + 1 :]
        if field.endswith("_file") and not field.endswith("ca_file"):
            try:
                value = Path(raw).read_text().strip()
            except OSError as e:
                raise ConfigError(f"{name}: {e.strerror or e}") from None
            except UnicodeDecodeError:
                raise ConfigError(f"{name}: the file is not UTF-8 text") from None
            field = field.removesuffix("_file")
        if section == "sinks":
            instance, _, field = field.partition("_")
            found.setdefault("sinks", {}).setdefault(instance, {})[field] = value
        elif _is_table(sections[section], field):
            try:
                found.setdefault(section, {})[field] = pairs(value)
            except ValueError as e:
                raise ConfigError(f"{name}: {e}") from None
        else:
            found.setdefault(section, {})[field] = value
    return found


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; of the rest the last one wins."""
    out: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                base = out.get(key)
                out[key] = merge(base if isinstance(base, Mapping) else {}, value)
            else:
                out[key] = value
    return out


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"sasl": {"password": "x"}} -> {"sasl.password": "x"}: dots in the keys of TOML and of --set make
    tables."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def _shaped(section: type[Any], field: str, value: Any) -> Any:
    """A table as one level of keys, a list of variables and flags (comma separated) as a list."""
    if isinstance(value, Mapping) and _is_table(section, field):
        return _flat(value)
    if isinstance(value, str) and _kind(section, field).startswith("tuple"):
        return [part for p in value.split(",") if (part := p.strip())]
    return value


def _in_shape(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer with its fields in the shape that the sections have."""
    sections = {f.name: f.type for f in msgspec.structs.fields(Settings) if f.name != "sinks"}
    out = dict(layer)
    for name, section in sections.items():
        if isinstance(fields := layer.get(name), Mapping):
            out[name] = {k: _shaped(section, k, v) for k, v in fields.items()}
    return out


def load(
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    path: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of this process. path: the TOML file; default ``$TAILRACE_CONFIG``, else ``tailrace.toml``
    if it is there.

    Raises `ConfigError`: unreadable file, unknown setting, wrong value; the message names the setting.
    """
    env = os.environ if env is None else env
    chosen = path or env.get(f"{PREFIX}CONFIG")
    file = Path(chosen or FILE)
    document: dict[str, Any] = {}
    if chosen or file.exists():
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise ConfigError(f"{file}: {e}") from None
    layers = (document, from_environment(env), flags or {})
    return convert(merge(*map(_in_shape, layers)), Settings, "")
