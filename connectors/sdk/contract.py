"""What a sink is: a class with a settings struct, a pure `map`, a `send` that answers in outcomes, and a
`check`.

    @sink("acme", max_records=500, max_bytes=4_000_000)
    class Acme:
        '''Traces to Acme.'''

        class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
            endpoint: str

        def __init__(self, settings: Settings) -> None: ...
        def map(self, event: Enriched) -> Payload | Skip | Rejected: ...
        async def send(self, batch: Batch, http: Http) -> Outcomes: ...
        async def check(self, http: Http) -> Health: ...

A sink may have ``async def close(self) -> None``, called in the send loop after its last batch, for what it
keeps open, and ``def render(self, payload: Payload) -> Any``, the payload as JSON-able Python for people
(`tailrace render`, golden tests).

It is found through the entry-point group ``tailrace.sinks``; everything else (consumer group, batches,
retries, halving, dead letters, commits, rebalances) is the runner's."""

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
    """One record of trace.enriched, decoded."""

    event: TraceEvent
    """With the sink's `fields` only, if it named any; the others have their defaults. Enums are plain
    strings."""
    context: TraceContext
    topic: str
    partition: int
    offset: int
    appended_at: int
    """Append time in trace.enriched, milliseconds UTC. Not the same in a replay: nothing a vendor keys on may
    use it."""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """One record as the sink will send it."""

    body: Any
    """Whatever `send` needs: bytes, as a rule."""
    size: int
    """Bytes it will take in a request, before compression; counts towards the batch's max_bytes."""
    events: int = 1
    """What it counts for in the vendor's limit of events a minute, e.g. 2 for a trace and its span."""


Secret = Annotated[str, msgspec.Meta(extra={"secret": True})]
"""Type of a setting that must not be seen: it is masked wherever the runner, `sinks` or `check` print
anything, and may be given as a file, `<name>_file`."""


class Rates(msgspec.Struct, frozen=True):
    """What a vendor takes a minute; 0: as much as there is."""

    events_per_minute: int = 0
    requests_per_minute: int = 0


NO_RATES: Final = Rates()


class Skip(msgspec.Struct, frozen=True):
    """The sink leaves this record out on purpose; counted as filtered."""

    reason: str


class RecordOrigin(msgspec.Struct, frozen=True, gc=False):
    """Where a record is and what its header says: all that a dead letter or a log line needs, and no
    content."""

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
    """Records of one partition, in its order; never empty."""

    items: tuple[Item, ...]

    @property
    def bodies(self) -> list[Any]:
        return [i.payload.body for i in self.items]

    def __len__(self) -> int:
        return len(self.items)


class Health(msgspec.Struct, frozen=True):
    """Whether credentials and reachability are as a sink needs them."""

    ok: bool
    detail: str = ""
    """If not: what is wrong and which setting mends it."""


class SinkStopped(TailraceError):
    """Raised by `send`: this sink cannot go on in this process (its terminal is gone). Nothing of the batch
    is settled."""


class Sink(Protocol):
    """What the runner uses. One instance serves all partitions of one configured sink."""

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        """Pure, and in the consumer's thread. An exception rejects this one record."""
        ...

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        """In the send loop's thread. One call at a time a partition, several at once over partitions; may be
        cancelled.

        May raise `NoAnswer`, OSError and TimeoutError, which are retried, and `SinkStopped`. Any other
        exception counts as a rejection of the batch, and is so pinned down to one record."""
        ...

    async def check(self, http: Http) -> Health:
        """Called once before the first record is read; may send, but nothing that a user would see as
        data."""
        ...


class Spec(msgspec.Struct, frozen=True):
    """What `@sink` says about a sink class."""

    name: str
    max_records: int
    max_bytes: int
    fields: frozenset[str] | None
    settings: type[msgspec.Struct]
    environment: Callable[[Mapping[str, str]], dict[str, Any]]
    doc: str
    rates: Rates = NO_RATES


S = TypeVar("S", bound=type[Any])
_SPEC: Final = "__tailrace_sink__"


def _reader(variables: Mapping[str, str]) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    """Reads settings from variables -> settings; of two variables for one setting the later wins."""

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
) -> Callable[[S], S]:
    """Makes a class a sink of type `name`.

    max_records, max_bytes: bounds of a batch, which an instance's settings may lower or raise. fields: the
    fields of TraceEvent that `map` reads, for a decoder that slices only these; None: all. environment:
    the setting of each well-known variable, for settings that the instance does not have, e.g.
    {"ACME_API_KEY": "api_key"}; or a function of the environment. rates: what the vendor takes a
    minute; an attribute `rates` of the sink object wins (where it depends on the plan or the host), and an
    instance's settings over both. Raises TypeError for a class that is no sink, or an unknown field."""
    wanted = None if fields is None else frozenset(fields)
    if unknown := (wanted or frozenset()) - set(TraceEvent.__struct_fields__):
        raise TypeError(f"sink {name}: TraceEvent has no field {', '.join(sorted(unknown))}")

    def mark(cls: S) -> S:
        settings = getattr(cls, "Settings", None)
        if not (isinstance(settings, type) and issubclass(settings, msgspec.Struct)):
            raise TypeError(f"sink {name}: {cls.__name__} has no Settings struct")
        for method in ("map", "send", "check"):
            if not callable(getattr(cls, method, None)):
                raise TypeError(f"sink {name}: {cls.__name__} has no {method}")
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
            ),
        )
        return cls

    return mark


def spec_of(cls: type[Any]) -> Spec:
    """What `@sink` said. Raises TypeError for a class that isn't one."""
    spec = getattr(cls, _SPEC, None)
    if not isinstance(spec, Spec):
        raise TypeError(f"{cls.__name__} is not a sink; decorate it with @connectors.sink(...)")
    return spec
