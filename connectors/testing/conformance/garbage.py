"""Odd, empty and extreme events that can nevertheless be in the log: `map` must handle them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from connectors.testing.samples import Sample, samples
from tailrace import records
from tailrace.codec import schemas
from tailrace.kinds import BODIES
from tailrace.records import TraceEvent

TEXTS: Final = {
    "accents": "Zoë Åström ñandú",
    "emoji": "👩‍🚀 🇪🇺 𝒳",
    "right to left": "\u202eabc\u202c שלום",
    "controls": "a\x00b\x1f\x7f\u2028\u2029c\r\nd",
    "quotes": '"\\/</script>{{x}}%s$(x)',
    "nothing": "",
}
"""Valid Unicode that has broken encoders before."""

_CONTENT: Final = {
    "lone surrogates": r'{"text": "\ud800 \udfff"}',
    "no JSON": "{not json",
    "a number": "1e999",
    "NaN": "NaN",
    "deep": "[" * 500 + "]" * 500,
    "empty": "",
    "null": "null",
    "text": '"plain"',
    "duplicate keys": '{"a": 1, "a": 2}',
    "big integer": "9" * 400,
}
_TIMES: Final = {
    "before 1970": (-1, -1),
    "zero": (0, 0),
    "backwards": (2_000_000_000_000_000, 1),
    "far away": (2**63 - 1, 2**63 - 1),
    "long ago": (-(2**63), -(2**63)),
}
_REQUIRED: Final = frozenset({"event_id", "kind", "source_id", "started_at", "ended_at", "published_at"})
_BODIES: Final = (*BODIES, "origin")


def written() -> Iterator[tuple[str, Sample]]:
    """(what is odd, sample): each kind with each oddity."""
    for name, sample in samples().items():
        event = sample.event

        def odd(what: str, name: str = name, sample: Sample = sample, **changed: Any) -> tuple[str, Sample]:
            return f"{name}, {what}", Sample(msgspec.structs.replace(sample.event, **changed), sample.context)

        bare = {
            f.name: f.default if f.default is not msgspec.NODEFAULT else f.default_factory()
            for f in msgspec.structs.fields(event)
            if f.name not in _REQUIRED
        }
        yield odd("nothing but what is required", **bare)
        yield odd("without content", inputs=None, outputs=None)
        bodiless: dict[str, Any] = dict.fromkeys(_BODIES)
        yield odd("without its body", **bodiless)
        yield odd("of a kind that is not known yet", kind="unknown")
        for what, text in TEXTS.items():
            yield odd(
                what,
                name=text,
                error=text,
                user_id=text,
                status=text,
                model_name=text,
                tags=[text],
                attributes={text: text},
            )
        for what, text in _CONTENT.items():
            yield odd(f"content: {what}", inputs=text, outputs=text)
        for what, (start, end) in _TIMES.items():
            yield odd(what, started_at=start, ended_at=end, time_to_first_token=start)
        for what, number in (("negative", -1), ("huge", 2**63 - 1)):
            yield odd(f"{what} numbers", input_tokens=number, output_tokens=number, total_tokens=number)
        for price in ("", "NaN", "-1", "1e400", "0.00000000000000000001", "free", "１"):
            yield odd(
                f"price {price}", input_price=price, output_price=price, total_price=price, currency=price
            )
        yield odd(
            "empty ids",
            event_id="",
            source_id="",
            trace_id="",
            message_id="",
            workflow_run_id="",
            session_id="",
        )
        zero = msgspec.structs.replace(
            sample.context,
            span_id=bytes(8),
            run_trace_id=bytes(16),
            message_trace_id=bytes(16),
            parent_span_id=bytes(8),
        )
        yield f"{name}, ids of zeros", Sample(event, zero)
        lost = msgspec.structs.replace(
            sample.context,
            root_trace_id=None,
            root_run_id=None,
            parent_span_id=None,
            parent_source_id=None,
            trace_started_at=0,
            marks=[
                "superseded",
                "clock_skew",
                "negative_duration",
                "self_parent",
                "root_inferred",
                "run_split",
                "start_unknown",
                "one of tomorrow",
            ],
        )
        yield f"{name}, without a root", Sample(event, lost)


@functools.cache
def generated() -> Any | None:
    """A hypothesis strategy for samples with anything that the schemas allow.

    None if hypothesis is not installed.
    """
    try:
        from hypothesis import strategies as st
    except ImportError:
        return None
    make = _Strategies(st)
    found = samples()
    events, contexts = (
        make.record(schemas.current("TraceEvent")),
        make.record(schemas.current("TraceContext")),
    )
    known = st.sampled_from(sorted(found)).map(found.__getitem__)
    partly = st.builds(
        _mixed, known, events, st.sets(st.sampled_from(sorted(TraceEvent.__struct_fields__)), max_size=6)
    )
    return st.one_of(partly, st.builds(Sample, events, contexts))


def _mixed(sample: Sample, other: TraceEvent, taken: set[str]) -> Sample:
    """A sample with some fields of another event."""
    changed = {name: getattr(other, name) for name in taken - {"kind"}}
    return Sample(msgspec.structs.replace(sample.event, **changed), sample.context)


class _Strategies:
    """Hypothesis strategies from our Avro schemas."""

    def __init__(self, st: Any) -> None:
        self._st, self._named = st, dict[str, Any]()

    def of(self, kind: Any) -> Any:
        st = self._st
        if isinstance(kind, list):
            return st.one_of(*(self.of(k) for k in kind))
        if isinstance(kind, str):
            if kind in self._named:
                return self.of(self._named[kind])
            simple = {
                "null": st.none,
                "string": lambda: st.text(max_size=20),
                "boolean": st.booleans,
                "bytes": lambda: st.binary(max_size=20),
                "int": lambda: st.integers(-(2**31), 2**31 - 1),
                "long": lambda: st.integers(-(2**63), 2**63 - 1),
                "double": lambda: st.floats(allow_nan=False),
            }
            return simple[kind]()
        if kind["type"] in ("enum", "fixed", "record"):
            self._named[kind["name"]] = kind
        match kind["type"]:
            case "enum":
                return st.sampled_from(kind["symbols"])
            case "fixed":
                return st.binary(min_size=kind["size"], max_size=kind["size"])
            case "array":
                return st.lists(self.of(kind["items"]), max_size=3)
            case "map":
                return st.dictionaries(st.text(max_size=10), self.of(kind["values"]), max_size=3)
            case "record":
                return self.record(kind)
            case inner:
                return self.of(inner)

    def record(self, schema: dict[str, Any]) -> Any:
        fields = {f["name"]: self.of(f["type"]) for f in schema["fields"]}
        return self._st.builds(getattr(records, schema["name"]), **fields)
