"""The sink contract: a class with a `Settings` struct and the methods `map`, `send` and `check`.

    @sink("acme", max_records=500, max_bytes=4_000_000)
    class Acme:
        '''Traces to Acme.'''

        class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
            endpoint: str

        def __init__(self, settings: Settings) -> None: ...
        def map(self, event: Enriched) -> Payload | Skip | Rejected: ...
        async def send(self, batch: Batch, http: Http) -> Outcomes: ...
        async def check(self, http: Http) -> Health: ...

Three more methods are optional:

- ``async def close(self) -> None`` releases what the sink keeps open. It is called in the send loop after the
  last batch.
- ``def render(self, payload: Payload) -> Any`` returns a payload as JSON-compatible Python objects, for
  `tailrace render` and golden tests.
- ``def link(self, trace_id: str) -> str | None`` returns the URL of the vendor's page of a trace, given
  `context.root_trace_id`; None if it is not known. It sends nothing, and no secret is in the URL. It is not
  promised that the page exists.

Sinks are found through the entry-point group ``tailrace.sinks``. The runner does everything else: the
consumer group, batches, retries, halving, dead letters, commits and rebalances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec

from connectors.sdk.http import Http
from connectors.sdk.outcomes import Outcomes, Rejected
from tailrace.errors import TailraceError
from tailrace.records import TraceContext, TraceEvent


class Enriched(msgspec.Struct, frozen=True, gc=False):
    """One decoded record of `trace.enriched`."""

    event: TraceEvent
    """The event. Enums are plain strings. Fields that the sink's `fields` leave out have their defaults."""
    context: TraceContext
    topic: str
    partition: int
    offset: int
    appended_at: int
    """Append time in `trace.enriched`, milliseconds UTC.

    It differs in a replay, so ids and other values that must be the same in every delivery must not use it.
    """


class Payload(msgspec.Struct, frozen=True, gc=False):
    """What a sink sends for one record."""

    body: Any
    """Whatever `send` needs, usually bytes."""
    size: int
    """Bytes in the request, before compression; counts towards the batch's `max_bytes`."""
    events: int = 1
    """How many events the vendor's rate limit counts for it, e.g. 2 for a trace and its span."""


Secret = Annotated[str, msgspec.Meta(extra={"secret": True})]
"""Type of a secret setting.

Its value is masked in everything that the runner, `tailrace sinks` and `tailrace check` print. It may be
given as a file with the setting `<name>_file`.
"""


class Rates(msgspec.Struct, frozen=True):
    """A vendor's rate limits per minute; 0 means no limit."""

    events_per_minute: int = 0
    requests_per_minute: int = 0


NO_RATES: Final = Rates()


class Skip(msgspec.Struct, frozen=True):
    """The sink does not send this record, on purpose. It is counted as filtered."""

    reason: str


class RecordOrigin(msgspec.Struct, frozen=True, gc=False):
    """A record's position and header fields, for dead letters and log lines. Holds no content."""

    topic: str
    partition: int
    offset: int
    appended_at: int
    key: bytes | None = None
    sequence: int | None = None
    generation: int | None = None
    event_id: str | None = None
    trace_id: str | None = None
    kind: str | None = None
    tenant_id: str | None = None
    app_id: str | None = None


class Item(msgspec.Struct, frozen=True, gc=False):
    """One record of a batch."""

    payload: Payload
    source: RecordOrigin


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Records of one partition, in offset order; never empty."""

    items: tuple[Item, ...]

    @property
    def bodies(self) -> list[Any]:
        return [i.payload.body for i in self.items]

    def __len__(self) -> int:
        return len(self.items)


class Health(msgspec.Struct, frozen=True):
    """Result of `Sink.check`: whether the backend can be reached and accepts the credentials."""

    ok: bool
    detail: str = ""
    """If not ok: what is wrong and which setting fixes it."""


class SinkStopped(TailraceError):
    """Raised by `send` if the sink cannot continue in this process, e.g. because its terminal is gone.

    No record of the batch is acknowledged.
    """


class Sink(Protocol):
    """The interface that the runner uses. One object serves all partitions of one configured sink."""

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        """Maps one record to its payload. Runs in the consumer's thread.

        Must be pure: the same record always gives the same payload. An exception rejects this record only.

        Args:
            event: The decoded record.

        Returns:
            The payload to send; `Skip` to filter the record; `Rejected` to dead-letter it.
        """
        ...

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        """Sends one batch. Runs in the send loop's thread and may be cancelled.

        There is at most one call at a time per partition, but calls for several partitions run concurrently.

        Args:
            batch: Records of one partition, in offset order.
            http: The HTTP client to use. It applies the request rate limit.

        Returns:
            One outcome for the whole batch, or a sequence with one outcome per record, in the batch's order.

        Raises:
            NoAnswer, OSError, TimeoutError: The batch is retried.
            SinkStopped: The sink ends. Nothing of the batch is acknowledged.
            Exception: Any other exception counts as a rejection of the batch, which is halved until the
                record at fault is found.
        """
        ...

    async def check(self, http: Http) -> Health:
        """Checks that the backend can be reached and accepts the credentials.

        Runs in the send loop's thread, before the first record is read. It may send requests, but nothing
        that a user would see as data. If it reports a problem, the sink starts all the same.
        """
        ...


class Spec(msgspec.Struct, frozen=True):
    """What `@sink` declares for a sink class."""

    name: str
    max_records: int
    max_bytes: int
    fields: frozenset[str] | None
    settings: type[msgspec.Struct]
    environment: Callable[[Mapping[str, str]], dict[str, Any]]
    doc: str
    rates: Rates = NO_RATES
    cut: bool = False


S = TypeVar("S", bound=type[Any])
_SPEC: Final = "__tailrace_sink__"


def _reader(variables: Mapping[str, str]) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    """Returns a function that reads settings from the environment.

    Args:
        variables: Variable name -> setting name. Of two variables for one setting the later one wins.
    """

    def read(env: Mapping[str, str]) -> dict[str, Any]:
        return {setting: env[name] for name, setting in variables.items() if env.get(name)}

    return read


def sink(
    name: str,
    *,
    max_records: int = 500,
    max_bytes: int = 4_000_000,
    fields: Iterable[str] | None = None,
    environment: Mapping[str, str] | Callable[[Mapping[str, str]], dict[str, Any]] = MappingProxyType({}),
    rates: Rates = NO_RATES,
    cut: bool = False,
) -> Callable[[S], S]:
    """Class decorator that makes a class a sink of type `name`.

    Args:
        name: The sink type, as instances name it in their setting `type`.
        max_records: Most records in a batch. An instance's settings may lower or raise it.
        max_bytes: Most bytes in a batch, by `Payload.size`. An instance's settings may lower or raise it.
        fields: The fields of `TraceEvent` that `map` reads; only these are decoded. None: all.
        environment: Where settings that the instance does not have come from: environment variable ->
            setting, e.g. {"ACME_API_KEY": "api_key"}, or a function from the environment to settings.
        rates: The vendor's rate limits. An attribute `rates` of the sink object wins over it (for limits that
            depend on the plan or the host), and the instance's settings win over both.
        cut: Whether `max_bytes` limits a single record, too: content that comes from the content store is
            then cut until the record's payload fits, and marked.

    Raises:
        TypeError: The class lacks `Settings`, `map`, `send` or `check`, or `fields` has an unknown name.
    """
    wanted = None if fields is None else frozenset(fields)
    if unknown := (wanted or frozenset()) - set(TraceEvent.__struct_fields__):
        raise TypeError(f"sink {name}: fields: TraceEvent has no field {', '.join(sorted(unknown))}")

    def mark(cls: S) -> S:
        settings = getattr(cls, "Settings", None)
        if not (isinstance(settings, type) and issubclass(settings, msgspec.Struct)):
            raise TypeError(
                f"sink {name}: {cls.__name__} has no settings; add a nested class Settings(msgspec.Struct)"
            )
        for method in ("map", "send", "check"):
            if not callable(getattr(cls, method, None)):
                raise TypeError(f"sink {name}: {cls.__name__} has no method {method}; a sink must define it")
        setattr(
            cls,
            _SPEC,
            Spec(
                name,
                max_records,
                max_bytes,
                wanted,
                settings,
                environment if callable(environment) else _reader(environment),
                (cls.__doc__ or "").strip(),
                rates,
                cut,
            ),
        )
        return cls

    return mark


def spec_of(cls: type[Any]) -> Spec:
    """What `@sink` declared for a class.

    Raises:
        TypeError: The class is not decorated with `@sink`.
    """
    spec = getattr(cls, _SPEC, None)
    if not isinstance(spec, Spec):
        raise TypeError(f"{cls.__name__} is not a sink; decorate it with @connectors.sink(...)")
    return spec
