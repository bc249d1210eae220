"""Checks of `map`: no network, no clock."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

import msgspec

from connectors.consumer.reader import ALWAYS
from connectors.preview.render import rendered
from connectors.sdk.contract import Enriched, Payload, Skip
from connectors.sdk.outcomes import Rejected
from connectors.testing import samples
from connectors.testing.conformance import filled, garbage
from connectors.testing.conformance.kit import Bench, Kit
from tailrace.errors import ConfigError
from tailrace.records import TraceEvent
from tailrace.settings import convert

_LATER: Final = 400 * 86_400
"""Seconds between two times at which `map` must give the same payload."""


class MappingChecks(Kit):
    def test_the_sink_describes_itself(self) -> None:
        """A sink has a docstring and sensible limits, and its Settings reject unknown fields.

        `tailrace sinks ls` shows the docstring's first line. If misspelt settings were ignored, the
        mistake would be found in production. Fix: add a docstring; set forbid_unknown_fields=True.
        """
        self.needs("test_the_sink_describes_itself", http=False)
        spec = self.spec
        assert spec.doc, f"{self.sink.__name__} has no docstring; `tailrace sinks ls` shows its first line"
        assert min(spec.max_records, spec.max_bytes) > 0, "max_records and max_bytes must be positive"
        values = self.values()
        convert(values, spec.settings, f"sinks.{spec.name}")
        try:
            convert({**values, "no_such_setting": "x"}, spec.settings, f"sinks.{spec.name}")
        except ConfigError:
            return
        raise AssertionError("Settings accept an unknown field: add forbid_unknown_fields=True")

    def test_map_answers_for_every_kind(self) -> None:
        """`map` returns Payload, Skip or Rejected for each kind, and a Payload for at least one of them.

        Return a Skip with a reason for what the vendor has no place for; skips are counted. Never
        return None.
        """
        self.needs("test_map_answers_for_every_kind", http=False)
        sink, read, sent = self.build(), samples.reader(self.spec.fields), 0
        for name, sample in (*samples.samples().items(), *garbage.written()):
            for answer in _tried(sink, read(sample, 0)):
                sent += isinstance(answer, Payload)
                wrong = _wrong(answer)
                assert not wrong, f"map returns for {name}: {wrong}"
        assert sent, "map returns no payload for any sample"

    def test_map_is_total(self) -> None:
        """`map` never raises for an event that can be in the log.

        Such events have no content, content that is not JSON, times before 1970 or in the far future,
        empty ids, huge numbers. Fix: return Rejected(reason) for what the vendor cannot accept.
        """
        self.needs("test_map_is_total", http=False)
        sink = self.build()
        read = samples.reader(self.spec.fields)
        for name, sample in garbage.written():
            _total(sink, read(sample, 0), name)
        generated = garbage.generated() if self.examples > 0 else None
        if generated is None:
            return
        from hypothesis import HealthCheck, given, settings

        @settings(
            max_examples=self.examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(generated)
        def try_one(sample: samples.Sample) -> None:
            _total(sink, read(sample, 0), "a generated event")

        try_one()

    def test_map_changes_nothing(self) -> None:
        """`map` does not change the record, which is shared with the dead letters.

        Fix: copy what you change.
        """
        self.needs("test_map_changes_nothing", http=False)
        sink = self.build()
        for _, name, record, before in self._with_copies():
            sink.map(record)
            assert record == before, f"map changed the record it was given ({name})"

    def test_map_remembers_nothing(self) -> None:
        """The same record always gives the same payload, whatever was mapped before or in between.

        A redelivery calls `map` again. Fix: no counters, no caches that change the result, no lists
        that grow in the sink.
        """
        self.needs("test_map_remembers_nothing", http=False)
        sink = self.build()
        chosen = list(samples.samples().items())
        once = [answer for _, _, _, answer in self.mapped(sink, chosen)]
        again = [answer for _, _, _, answer in self.mapped(sink, chosen)]
        for (name, _), first, second in zip(chosen, once, again, strict=True):
            assert first == second, (
                f"map returns another payload the second time ({name}): {_difference(first, second)}"
            )

    def test_identity_is_the_events(self) -> None:
        """A payload depends only on the event and its context: not on time, chance or the record's position.

        A replay has other offsets and append times, and must overwrite what is stored instead of adding
        to it. Fix: derive ids from event_id, source_id and the context's ids, and times from the event.
        """
        self.needs("test_identity_is_the_events", http=False)
        chosen = list(samples.samples().items())
        first = [answer for _, _, _, answer in self.mapped(self.build(), chosen)]
        with _later():
            sink = self.build()
            for (name, sample), before in zip(chosen, first, strict=True):
                record = samples.read(sample, self.spec.fields)
                moved = msgspec.structs.replace(
                    record, topic="replayed", partition=7, offset=987_654, appended_at=1_999_999_999_999
                )
                after = sink.map(moved)
                assert before == after, (
                    f"another time or position gives another payload ({name}): {_difference(before, after)}"
                )

    def test_fields_names_all_that_map_reads(self) -> None:
        """`fields` names every field that `map` reads.

        The runner decodes only those; others have their defaults, and what they hold is lost silently.
        Fix: add the field to `fields`; the message shows what is lost.
        """
        self.needs("test_fields_names_all_that_map_reads", http=False)
        fields = self.spec.fields
        if fields is None:
            return
        sink, whole, cut = self.build(), samples.reader(None), samples.reader(fields)
        left_out = sorted(set(TraceEvent.__struct_fields__) - fields - ALWAYS)
        for name, sample in itertools.chain(
            samples.samples().items(), garbage.written(), filled.filled(), *map(filled.alone, left_out)
        ):
            for want in _tried(sink, whole(sample, 0)):
                found = sink.map(cut(sample, 0))
                assert found == want, (
                    f"map reads a field that fields does not name ({name}): {_difference(want, found)}"
                )

    def test_a_payload_says_its_size(self) -> None:
        """`Payload.size` is about the record's size in a request, before compression.

        If it is too small, batches exceed the vendor's limit; if it is too large, batches stay small.
        Fix: size=len(body) plus what joins the bodies.
        """
        self.needs("test_a_payload_says_its_size")

        async def check(bench: Bench) -> None:
            text = json.dumps({"text": "A long story. " * 200})
            records = self.records(bench.sink, start=100, inputs=text, outputs=text)
            claimed = sum(r.payload.size for r in records)
            assert all(r.payload.size > 0 and r.payload.events > 0 for r in records), (
                "size and events must be positive"
            )
            await bench.deliver(records)
            self.triggered(bench)
            taken = sum(len(r.body) for r in bench.requests if self.ids_in(r))
            envelopes = 2048 * sum(1 for r in bench.requests if self.ids_in(r))
            assert taken <= 1.25 * claimed + envelopes, (
                f"the requests have {taken} bytes, but the payload sizes add up to {claimed}"
            )
            assert claimed <= 4 * taken + 1024 * len(records), (
                f"the payload sizes add up to {claimed} bytes, but the requests have {taken}"
            )

        self.run(check)

    def test_render_is_json(self) -> None:
        """`tailrace render` can print every payload.

        `render(payload)` is JSON without NaN, the same each time, and does not change the payload.
        Without a `render` the body must be bytes, text or JSON-able. Fix: a `render` that shows what is
        sent.
        """
        self.needs("test_render_is_json", http=False)
        sink = self.build()
        for _, name, _, payload in self.mapped(sink, samples.samples().items()):
            if not isinstance(payload, Payload):
                continue
            texts = []
            for _ in range(2):
                try:
                    texts.append(json.dumps(rendered(sink, payload), allow_nan=False))
                except (TypeError, ValueError, RecursionError) as e:
                    raise AssertionError(f"the payload of {name} cannot be shown as JSON: {e}") from None
            assert texts[0] == texts[1], f"render returns something else the second time ({name})"

    def _with_copies(self) -> Iterator[tuple[int, str, Enriched, Enriched]]:
        read = samples.reader(self.spec.fields)
        for number, (name, sample) in enumerate(samples.samples().items()):
            yield number, name, read(sample, number), read(sample, number)


def _wrong(answer: object) -> str:
    """What is wrong with a result of `map`; empty if nothing is."""
    if not isinstance(answer, Payload | Skip | Rejected):
        return f"{answer!r:.80}, which is not a Payload, Skip or Rejected"
    return "" if isinstance(answer, Payload) or answer.reason else f"{type(answer).__name__} without a reason"


def _tried(sink: Any, record: Enriched) -> tuple[object, ...]:
    """The result of `map`; nothing if it raises, which another check reports."""
    try:
        return (sink.map(record),)
    except Exception:
        return ()


def _total(sink: Any, record: Enriched, name: str) -> None:
    try:
        sink.map(record)
    except Exception as e:
        raise AssertionError(f"map raised {type(e).__name__} for {name}: {e}") from e


def _difference(first: object, second: object) -> str:
    """Where the reprs of two payloads differ."""
    a, b = repr(first), repr(second)
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"…{a[max(0, at - 30) : at + 40]}… and …{b[max(0, at - 30) : at + 40]}…"


@contextlib.contextmanager
def _later() -> Iterator[None]:
    """Patches the clock to a later time. Random numbers differ anyway."""
    seconds, nanos = time.time, time.time_ns

    def later() -> float:
        return seconds() + _LATER

    def later_ns() -> int:
        return nanos() + _LATER * 10**9

    with mock.patch("time.time", later), mock.patch("time.time_ns", later_ns):
        yield
