"""Settings of every command: `tailrace.toml`, then `TAILRACE_…` variables, then flags; the last one wins.

Each section is a struct. A variable is named ``TAILRACE_<SECTION>_<FIELD>``, for example
``TAILRACE_KAFKA_BOOTSTRAP_SERVERS``; a sink's is ``TAILRACE_SINKS_<INSTANCE>_<FIELD>``. A variable
whose name ends in ``_FILE`` names a file that holds the value, except ``CA_FILE``, which is a setting
of its own. In variables and flags, tables are written ``key=value,key=value`` or one pair per line;
lists are comma separated. Variables that no setting has are warned about once; those that Kubernetes
sets for a Service are ignored.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from tailrace import variables
from tailrace.errors import ConfigError
from tailrace.variables import PREFIX

log: Final = logging.getLogger("tailrace.settings")

FILE: Final = "tailrace.toml"
SINK_TYPES: Final = "tailrace.sinks"
"""Entry-point group of the installed sinks."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

_RELIED_ON: Final = frozenset(
    {
        "group.id",
        "group.instance.id",
        "group.protocol",
        "enable.auto.commit",
        "auto.commit.enable",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "auto.offset.reset",
        "isolation.level",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "delivery.report.only.error",
        "queuing.strategy",
        "transactional.id",
        "partitioner",
        "partition.assignment.strategy",
        "allow.auto.create.topics",
    }
)
"""librdkafka properties that decide whether records are lost, duplicated or reordered.

Also whether the end of a log and a delivery are noticed, and whether a client creates topics.
"""
_ELSEWHERE: Final = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "metadata.broker.list": "kafka.bootstrap_servers",
    "transaction.timeout.ms": "streams.transaction_timeout_ms",
}
"""Properties that have a setting of their own."""
_NOT_TEXT: Final = frozenset(
    {"logger", "on_delivery", "on_commit", "default.topic.config", "opaque", "interceptors"}
)
"""Properties whose value is not text. The same holds for all that end in _cb."""


def _port(server: str) -> str | None:
    """The port of a server, or None if it has none.

    Forms: ``host``, ``host:port``, ``[v6]:port``, ``v6``, each also after ``protocol://``.
    """
    host, colon, port = server.rpartition("://")[2].rpartition(":")
    return port if colon and (":" not in host or host.endswith("]")) else None


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bootstrap_servers: str = "127.0.0.1:9092"
    """host:port, comma separated."""
    client: dict[str, str] = {}
    """librdkafka properties, e.g. security.protocol, sasl.mechanism, sasl.username, ssl.ca.location.

    Numbers and booleans become text. Properties that tailrace relies on are refused.
    """

    def __post_init__(self) -> None:
        servers = [s.strip() for s in self.bootstrap_servers.split(",") if s.strip()]
        if not servers:
            raise ConfigError("kafka.bootstrap_servers: is empty; set it, for example to localhost:9092")
        for server in servers:
            port = _port(server)
            if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
                raise ConfigError(
                    f"kafka.bootstrap_servers: {server}: the port is not a number from 1 to 65535; "
                    "for example localhost:9092"
                )
        for key in self.client:
            if key in _ELSEWHERE:
                raise ConfigError(f"kafka.client: {key} cannot be set here; use {_ELSEWHERE[key]}")
            if key in _RELIED_ON:
                raise ConfigError(f"kafka.client: {key} cannot be set; tailrace relies on its own value")
            if key in _NOT_TEXT or key.endswith("_cb"):
                raise ConfigError(f"kafka.client: {key} cannot be set; its value is not text")

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.client))  # values may be secrets
        return f"Kafka(bootstrap_servers={self.bootstrap_servers!r}, client={{{names}}})"


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prefix: str = "trace."
    """Prefix of every topic name."""
    partitions: Positive = 4
    """Partitions of each topic that `tailrace topics create` creates."""
    replication_factor: Positive = 1
    """Replicas of each partition; 3 in production."""
    max_event_bytes: Annotated[int, msgspec.Meta(ge=131_072, le=1_000_000_000)] = 1_000_000
    """Largest record of trace.events, of which 64 KiB are reserved. Internal topics allow more."""


class Publisher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    queue_max_events: Positive = 100_000
    """Events that may wait for the broker in this process."""
    queue_max_bytes: Positive = 256 * 1024 * 1024
    """Bytes that may wait."""
    when_full: Literal["block", "drop", "raise"] = "block"
    """What publish() does if the queue is full.

    block: wait up to block_seconds, then raise. drop: drop the event and count it. raise: raise at
    once.
    """
    block_seconds: Seconds = 5.0
    delivery_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """How long an event may wait for its acknowledgement before it is reported as failed.

    Events are lost if Kafka is down for longer.
    """
    spool_dir: str = ""
    """Folder on a local disk for events that Kafka does not take for 5 seconds; empty: none.

    Several processes may share it. They are sent when Kafka is back, with the same ids, in no order.
    """
    spool_max_bytes: Positive = 1024 * 1024 * 1024
    """Bytes of all files in spool_dir. What does not fit is reported as failed."""
    spool_max_age_hours: Annotated[float, msgspec.Meta(gt=0)] = 168.0
    """Older files in spool_dir are given up, with a count in the log."""
    exit_seconds: Seconds = 5.0
    """How long the end of a process waits for the events of a publisher that was not closed."""
    linger_ms: Annotated[int, msgspec.Meta(ge=0)] = 5
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    oversize: Literal["refuse", "truncate"] = "refuse"
    """What to do with an event over topics.max_event_bytes.

    refuse: raise, naming the field. truncate: cut its largest fields, and say so in the event.
    """


class Streams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    app_id: str = "tailrace-streams"
    """Prefix of the consumer group; the same for all processors of a pipeline."""
    workers: Positive = 1
    """Worker processes under the supervisor."""
    commit_interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Records that arrive on a partition within this time are committed together.

    Longer means higher throughput and higher latency.
    """
    unit_records: Positive = 20_000
    unit_bytes: Positive = 32 * 1024 * 1024
    commit_threads: Positive = 2
    """Concurrent commits; about the number of cores."""
    session_timeout_ms: Annotated[int, msgspec.Meta(ge=1000)] = 6000
    """How long a worker that has stopped keeps its partitions."""
    transaction_timeout_ms: Annotated[int, msgspec.Meta(ge=1000)] = 10_000
    trace_idle_minutes: Positive = 15
    """A trace leaves the state after this long without events (append time)."""
    max_open_traces: Positive = 200_000
    """Open traces per partition; above it the oldest are evicted."""
    dedupe_minutes: Positive = 60
    """How long an event id is remembered (append time)."""
    remembered_start_bytes: Positive = 4 * 1024 * 1024
    """Memory per partition for the starts of traces that have left the state.

    Above it the oldest are dropped. A later event of such a trace is marked start_unknown.
    """
    remembered_link_bytes: Positive = 32 * 1024 * 1024
    """Memory per partition for the roots of nested runs; above it the oldest are dropped."""
    metrics_interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 5000
    """How often changed metric rows, series and summaries are written."""
    metrics_horizon_hours: Positive = 192
    """How long a minute's row stays open for late events (append time).

    The default is the retention of trace.events plus one day.
    """
    max_metric_groups: Positive = 10_000
    """Label combinations per event kind and partition; further ones are counted as `__overflow__`."""
    max_metric_rows: Positive = 500_000
    """Open minutes of label combinations per partition; above it the oldest are closed."""
    http_host: str = "127.0.0.1"
    """Where /healthz, /readyz and /metrics are served; 0.0.0.0 for remote probes. No authentication."""
    http_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9464
    """Port of the first worker of a host; the next worker uses the next port. 0: off.

    If a port is in use a free one is chosen and logged.
    """
    watchdog_seconds: Seconds = 60.0
    """How long a worker may hang before it exits and is restarted. 0: off; otherwise at least 5.

    A worker hangs if its event loop is blocked, or if it makes no progress on a partition with unread
    records. Taking over a partition may take ten times as long.
    """

    def __post_init__(self) -> None:
        if 0 < self.watchdog_seconds < 5:
            raise ConfigError("streams.watchdog_seconds: must be 0 (off) or at least 5, for example 60")


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    group_prefix: str = "tailrace-sink-"
    """A sink's consumer group is this prefix and the name of the sink's instance."""
    max_age_ms: Annotated[int, msgspec.Meta(ge=0)] = 200
    """A batch is sent at the latest this long after its first record."""
    commit_interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 500
    session_timeout_ms: Annotated[int, msgspec.Meta(ge=1000)] = 10_000
    drain_seconds: Seconds = 20.0
    """How long a shutdown or a rebalance waits for batches in flight."""
    max_attempts: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Sends of a batch that the sink asks to retry. 0: no limit.

    Without a limit a sink that is down holds its partitions.
    """
    http_host: str = "127.0.0.1"
    """Where /healthz, /readyz and /metrics are served; 0.0.0.0 for remote probes. No authentication."""
    http_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9474
    """If the port is in use the next free one is chosen and logged. 0: off."""
    instance_id: str = ""
    """Static group membership (group.instance.id); must differ for each process. Empty: off.

    A restart within session_timeout_ms then moves no partition.
    """


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    """URL of a schema registry with Confluent's REST interface, with its path if any. Empty: no registry."""
    user: str = ""
    """User for basic authentication, with `password`."""
    password: str = ""
    token: str = ""
    """Bearer token, instead of user and password."""
    ca_file: str = ""
    """PEM file with the certificate authorities for an https URL. Empty: those of the system."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """Longest time that one request may take."""
    auto_register: bool = True
    """Whether a publisher registers its schema if the subject lacks it; if false it refuses to start."""
    write: Literal["confluent", "single-object"] = "confluent"
    """What publishers write before a value.

    confluent: the registry's schema id. single-object: the schema's fingerprint, as without a registry.
    """
    cache_dir: str = ""
    """Where fetched schemas are kept permanently. Empty: tailrace/registry in $XDG_CACHE_HOME or ~/.cache."""

    def __post_init__(self) -> None:
        if not self.url:
            return
        scheme, _, rest = self.url.partition("://")
        host = rest.partition("/")[0]
        if scheme not in ("http", "https") or not host or any(c in self.url for c in "?# "):
            raise ConfigError("registry.url: is not a valid URL; for example https://registry:8081")
        if "@" in host:
            raise ConfigError("registry.url: holds credentials; use registry.user and registry.password")
        if self.token and self.user:
            raise ConfigError("registry.token: cannot be combined with registry.user; set one of them")

    def __repr__(self) -> str:
        return f"Registry(url={self.url!r}, …)"


class Schemas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: tuple[str, ...] = ()
    """Avro schemas (.avsc) of other publishers, for values that carry a fingerprint."""
    wait_seconds: Seconds = 60.0
    """How long records wait for an unknown schema, once per schema; then they are dead letters."""


_SECRET_PARAMETER: Final = re.compile(
    r"[?&][^=&]*(?:sig|token|secret|key|passw|credential)[^=&]*=", re.IGNORECASE
)


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    store: str = ""
    """Folder that all hosts share, or a URL that fsspec knows, for content that is too large for an event.

    Empty: none.
    """
    storage_options: dict[str, str] = {}
    """Options of the URL's library, e.g. key, secret, client_kwargs.endpoint_url. Values may be secrets."""
    threshold_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Fields that are larger go to the store. 0: only what does not fit into the event, and media."""
    max_bytes: Annotated[int, msgspec.Meta(ge=1_000_000, le=2_000_000_000)] = 100 * 1024 * 1024
    """Largest field that is stored. What exceeds it is cut or refused, as publisher.oversize says."""
    queue_bytes: Positive = 256 * 1024 * 1024
    """Bytes that may wait for the store in a publisher."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """How long an event waits for the store. Then it is published with its content cut."""
    rehydrate_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """How long a sink waits for a record's content. Then the record is sent without it, and marked."""
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * 1024 * 1024
    """Content that the sinks of a process keep in memory. Content that a record waits for comes in addition.
    """

    def __post_init__(self) -> None:
        if not self.store:
            return
        protocol, separator, rest = self.store.partition("://")
        if not separator:
            if not Path(self.store).expanduser().is_absolute():
                raise ConfigError(
                    "content.store: is not an absolute path or a URL; for example /mnt/share/tailrace or "
                    "s3://bucket/folder"
                )
        elif not protocol or not rest.strip("/"):
            raise ConfigError("content.store: is not a valid URL; for example s3://bucket/folder")
        elif ":" in rest.partition("/")[0].rpartition("@")[0] or _SECRET_PARAMETER.search(rest):
            raise ConfigError("content.store: holds credentials; use content.storage_options")

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.storage_options))  # values may be secrets
        return f"Content(store={self.store!r}, storage_options={{{names}}}, …)"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    publisher: Publisher = Publisher()
    streams: Streams = Streams()
    connect: Connect = Connect()
    registry: Registry = Registry()
    schemas: Schemas = Schemas()
    content: Content = Content()
    sinks: dict[str, dict[str, Any]] = {}
    """Instance name -> the sink's settings.

    `type` names the sink if the instance's name does not.
    """


RENAMED: Final = {
    "connect.unknown_schema_seconds": "schemas.wait_seconds",
    "registry.wait_seconds": "schemas.wait_seconds",
}
"""Settings of former versions, and what they are called now."""

T = TypeVar("T", bound=msgspec.Struct)


def convert(values: Mapping[str, Any], cls: type[T], where: str) -> T:
    """`values` as `cls`. Text is converted to numbers and booleans where needed.

    Args:
        values: the fields.
        cls: the struct to build.
        where: the prefix of field names in error messages.

    Raises:
        ConfigError: names the setting.
    """
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
                hint = f"; it is {now} now ({_variable(now)})"
        raise ConfigError(f"{(where + path).lstrip('.') or 'settings'}: {problem}{hint}") from None


def pairs(text: str) -> dict[str, str]:
    """Parses ``a=b,c=d``, or one pair per line, into a dict.

    Raises:
        ValueError: an entry has no ``=``. The message does not contain the entry, which may be a
            secret.
    """
    out: dict[str, str] = {}
    parts = text.splitlines() if "\n" in text else text.split(",")
    for number, part in enumerate(filter(None, (p.strip() for p in parts)), 1):
        key, sep, value = part.partition("=")
        if not sep or not key.strip():
            raise ValueError(
                f"entry {number} is not key=value; for example a=1,b=2. "
                f"If a value contains a comma, write one pair per line or use {FILE}"
            )
        out[key.strip()] = value.strip()
    return out


def _kinds(section: type[Any]) -> dict[str, str]:
    return {f.name: str(f.type) for f in msgspec.structs.fields(section)}


def _sections() -> dict[str, type[Any]]:
    """The sections that are structs: all but `sinks`."""
    return {f.name: f.type for f in msgspec.structs.fields(Settings) if f.name != "sinks"}


def table_from_text(path: str, text: str) -> dict[str, str] | None:
    """The table that a flag's text means; None if the setting is not a table of a section.

    Args:
        path: the setting, e.g. kafka.client.
        text: its value, as for `pairs`.

    Raises:
        ValueError: as `pairs`.
    """
    section, _, field = path.partition(".")
    cls = _sections().get(section)
    return pairs(text) if cls is not None and _kinds(cls).get(field, "").startswith("dict") else None


class Variables(NamedTuple):
    """What the environment says."""

    found: dict[str, dict[str, Any]]
    """Section -> field -> value."""
    unknown: tuple[str, ...]
    """Variables that no setting has, except those of Kubernetes."""


class FileValue:
    """A setting of a sink that a variable's file holds. It is read by who uses the sink, nobody else."""

    __slots__ = ("_path", "_variable")

    def __init__(self, variable: str, path: str) -> None:
        self._variable, self._path = variable, path

    def read(self) -> str:
        """The file's text, without surrounding blanks.

        Raises:
            ConfigError: it cannot be read. Names the variable.
        """
        return _from_file(self._variable, self._path)


def read_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """A sink's table with the texts of the files that variables name. Raises `ConfigError`."""
    return {k: v.read() if isinstance(v, FileValue) else v for k, v in table.items()}


def _from_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as e:
        raise ConfigError(f"{name}: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: the file is not UTF-8 text") from None


def from_environment(env: Mapping[str, str], instances: Collection[str] = ()) -> Variables:
    """The sections and fields that `TAILRACE_…` variables set.

    Args:
        env: all variables.
        instances: sink instances that are configured elsewhere. A variable of another instance counts
            if that is named as an installed sink, or has a `type`.

    Raises:
        ConfigError: a variable's file cannot be read, or its text is not a table.
    """
    sections = _sections()
    found: dict[str, dict[str, Any]] = {}
    sinks: dict[str, tuple[str, str]] = {}
    unknown: list[str] = []
    for name, value in env.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}CONFIG":
            continue
        if variables.of_service_link(name, value, env):
            continue
        section, _, field = name[len(PREFIX) :].lower().partition("_")
        if section == "sinks":
            sinks[name] = (field, value)
            continue
        kinds = _kinds(sections[section]) if section in sections else {}
        text = value
        if field not in kinds and field.endswith("_file") and field.removesuffix("_file") in kinds:
            field, text = field.removesuffix("_file"), _from_file(name, value)
        if field not in kinds:
            if not variables.like_service_link(name):
                unknown.append(name)
        elif kinds[field].startswith("dict"):
            try:
                found.setdefault(section, {})[field] = pairs(text)
            except ValueError as e:
                raise ConfigError(f"{name}: {e}") from None
        else:
            found.setdefault(section, {})[field] = text
    if sinks:
        tables, strange = _of_sinks(sinks, instances)
        unknown += strange
        if tables:
            found["sinks"] = tables
    return Variables(found, tuple(unknown))


_FILES: Final = frozenset({"ca_file", "cert_file", "key_file"})
"""Settings of sinks that are a file's name themselves."""


def _of_sinks(
    given: Mapping[str, tuple[str, str]], configured: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The tables of sinks by instance, and the variables that belong to none.

    Args:
        given: variable -> what follows TAILRACE_SINKS_ in lower case, and the value.
        configured: instances that are configured elsewhere.
    """
    known = {*configured, *(e.name for e in entry_points(group=SINK_TYPES))}
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    strange: list[str] = []
    for name, (rest, value) in given.items():
        instance, field = variables.sink_and_field(rest, known)
        if field:
            tables.setdefault(instance, {})[field] = (name, value)
        else:
            strange.append(name)
    out: dict[str, Any] = {}
    for instance, fields in tables.items():
        if instance not in known and "type" not in fields:
            strange += (name for name, _ in fields.values())
            continue
        table = out[instance] = {}
        for field, (name, value) in fields.items():
            if field.endswith("_file") and field not in _FILES:
                table[field.removesuffix("_file")] = FileValue(name, value)
            else:
                table[field] = value
    return out, strange


_warned: Final[set[str]] = set()
"""Variables that this process has warned about."""


def _warn(names: Collection[str], say: Callable[[str], None] | None) -> None:
    """Warns about variables that no setting has; once in a process, unless the caller takes the text."""
    fresh = [n for n in names if say is not None or n not in _warned]
    if not fresh:
        return
    settings = [_variable(f"{section}.{f}") for section, cls in _sections().items() for f in _kinds(cls)]
    renamed = {_variable(old): _variable(now) for old, now in RENAMED.items()}
    text = variables.warning(fresh, settings, renamed)
    if say is None:
        _warned.update(fresh)
        log.warning("%s", text)
    else:
        say(text)


def _variable(setting: str) -> str:
    return f"{PREFIX}{setting}".upper().replace(".", "_")


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merges tables key by key; for other values the last one wins."""
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
    """{"sasl": {"password": "x"}} -> {"sasl.password": "x"}

    Dots in keys of TOML and of --set make nested tables.
    """
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def _as_text(path: str, key: str, value: Any) -> str:
    """A value of a table of texts: numbers and booleans are written as text.

    In PEM texts a backslash and an n become a line break, so that a variable can hold one in a line.

    Raises:
        ConfigError: it is something else. Names the key, not the value, which may be a secret.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} must be text, a number, true or false") from None
    return value.replace("\\n", "\n") if key.endswith(".pem") else value


def _shaped(section: str, cls: type[Any], field: str, value: Any) -> Any:
    """Flattens tables to one level, and splits comma-separated lists from variables and flags."""
    kind = _kinds(cls).get(field, "")
    if isinstance(value, Mapping) and kind.startswith("dict"):
        return {k: _as_text(f"{section}.{field}", k, v) for k, v in _flat(value).items()}
    if isinstance(value, str) and kind.startswith("tuple"):
        return [part for p in value.split(",") if (part := p.strip())]
    return value


def _in_shape(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of settings whose fields have the shape of the sections."""
    out = dict(layer)
    for name, cls in _sections().items():
        if isinstance(fields := layer.get(name), Mapping):
            out[name] = {k: _shaped(name, cls, k, v) for k, v in fields.items()}
    return out


def load(
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    path: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Settings:
    """Loads the settings of this process.

    Args:
        flags: section -> field -> value; they override the file and the variables.
        path: the TOML file; default ``$TAILRACE_CONFIG``, else ``tailrace.toml`` if it exists.
        env: the environment; default `os.environ`.
        say: receives a line about variables that no setting has; default: it is logged, once.

    Raises:
        ConfigError: the file cannot be read, a setting of the file or of `flags` does not exist, or a
            value is wrong. Names the setting.
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
    configured = [
        name
        for layer in (document, flags or {})
        if isinstance(sinks := layer.get("sinks"), Mapping)
        for name in sinks
    ]
    given = from_environment(env, configured)
    _warn(given.unknown, say)
    return convert(merge(*map(_in_shape, (document, given.found, flags or {}))), Settings, "")
