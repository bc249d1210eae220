"""Checks of `send` behind the real batch sender: what is delivered, repeated, split and given up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence

from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch
from connectors.sdk.outcomes import Delivered, Rejected
from connectors.testing.conformance.garbage import TEXTS
from connectors.testing.conformance.hostile_server import Answer, Received
from connectors.testing.conformance.kit import IMPATIENT, Bench, Kit, Record

POISONED = 3
"""Index of the bad record in a batch."""


def all_delivered(results: dict[str, RecordResult], records: Collection[Record]) -> None:
    """Fails unless every record was delivered."""
    assert len(results) == len(records), f"{len(records)} records, {len(results)} results"
    others = [
        (r.name, results[r.id].verdict) for r in records if not isinstance(results[r.id].verdict, Delivered)
    ]
    assert not others, f"{len(others)} of {len(records)} records were not delivered, the first: {others[0]}"


class DeliveryChecks(Kit):
    def test_a_batch_is_delivered(self) -> None:
        """What the vendor accepts is Delivered, and each record is in an accepted request.

        No record may be left out.
        """
        self.needs("test_a_batch_is_delivered", http=False)

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink)
            all_delivered(await bench.deliver(records), records)
            self.nothing_lost(bench, records)

        self.run(check)

    def test_records_go_in_order(self) -> None:
        """A request has its records in the order of the batch.

        `send` returns one outcome for all records or one per record. A later version of an object must
        not be overtaken by an earlier one.
        """
        self.needs("test_records_go_in_order")

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=8)
            outcomes = await bench.sink.send(Batch(tuple(r.item for r in records)), bench.http)
            if isinstance(outcomes, Sequence):
                assert len(outcomes) == len(records), f"{len(outcomes)} outcomes for {len(records)} records"
            self.triggered(bench)
            place = {r.id: i for i, r in enumerate(records)}
            for request in bench.requests:
                found = self.ids_in(request)
                if isinstance(found, Sequence):
                    order = [place[i] for i in found]
                    assert order == sorted(order), (
                        f"request {request.number} has the records in the order {order}"
                    )

        self.run(check)

    def test_text_arrives_whole(self) -> None:
        """Any valid Unicode is sent: accents, emoji, right to left, control characters.

        No record may be rejected for it. A body that is declared as JSON must be valid JSON in UTF-8,
        without NaN.
        """
        self.needs("test_text_arrives_whole")

        async def check(bench: Bench) -> None:
            texts = list(TEXTS.values())
            records = []
            for i, text in enumerate(texts):
                content = json.dumps({"text": text}, ensure_ascii=i % 2 == 0)
                records += self.records(
                    bench.sink, 1, 100 + i, inputs=content, outputs=content, error=text, user_id=text
                )
            records += self.records(bench.sink, 1, 200, inputs=r'{"text": "\ud83d"}', outputs=r'"\ud800"')
            all_delivered(await bench.deliver(records), records)
            self.nothing_lost(bench, records)
            for request in bench.requests:
                if "json" in request.headers.get("content-type", "") and request.body:
                    _json(request)

        self.run(check)

    def test_429_waits_as_long_as_it_says(self) -> None:
        """429 with Retry-After: the same records are sent again, not before that time is over.

        Fix: return Retry(after=…); `policy.decide` does it.
        """
        self.needs("test_429_waits_as_long_as_it_says")

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            all_delivered(await bench.deliver(records), records)
            self.triggered(bench)
            assert max(bench.slept, default=0.0) >= 17, f"Retry-After was 17 s, the waits were {bench.slept}"
            self.nothing_lost(bench, records)

        self.run(check, self.first(2, self.status(429, Retry_After="17")))

    def test_429_without_a_time_is_retried(self) -> None:
        """429 without Retry-After: the same records are sent again after a back-off.

        They must never become dead letters. Fix: return Retry().
        """
        self.needs("test_429_without_a_time_is_retried")
        self._is_retried(429)

    def test_500_is_retried(self) -> None:
        """500: the vendor is broken, not the record; it is sent again. Fix: return Retry()."""
        self.needs("test_500_is_retried")
        self._is_retried(500)

    def test_502_503_and_504_are_retried(self) -> None:
        """502, 503, 504: the vendor is down or being deployed; records are sent again, without limit.

        Fix: return Retry().
        """
        self.needs("test_502_503_and_504_are_retried")
        for status in (502, 503, 504):
            self._is_retried(status)

    def test_a_redelivery_is_the_same_request(self) -> None:
        """A repeated request is equal to the first, byte by byte before compression.

        The vendor may have stored the first one. Fix: put no sending time, random request id or attempt
        counter into a request.
        """
        self.needs("test_a_redelivery_is_the_same_request")

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            await bench.deliver(records)
            await bench.deliver(records)
            data = [r for r in bench.requests if self.ids_in(r)]
            assert len(data) % 2 == 0, "the redelivery has another number of requests"
            for first, again in zip(data[: len(data) // 2], data[len(data) // 2 :], strict=True):
                assert self.same(first, again), (
                    f"{again.method} {again.path} differs in the redelivery: "
                    f"{_parting(first.body, again.body)}"
                )

        self.run(check)

    def test_a_hang_is_retried(self) -> None:
        """If the vendor does not answer within the seconds that `send` set, NoAnswer is raised.

        `send` must let it pass, so that the runner retries. Fix: no `except` that turns it into a final
        outcome, and no request without a time limit.
        """
        self.needs("test_a_hang_is_retried")

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            bench.http.limit = IMPATIENT
            all_delivered(await bench.deliver(records), records)
            assert max(bench.http.asked) <= 600, (
                f"a request may take {max(bench.http.asked):g} s, and a shutdown has to wait for it"
            )
            self.nothing_lost(bench, records)

        self.run(check, self.first(1, lambda request: Answer(fault="hang")))

    def test_a_slow_answer_is_waited_for(self) -> None:
        """An answer that arrives in pieces counts, and `send` waits for it at least 5 s.

        A sink that gives up earlier repeats what the vendor has stored; if the vendor is always slow,
        for ever.
        """
        self.needs("test_a_slow_answer_is_waited_for")

        def plan(request: Received) -> Answer:
            answer = self.accepted(request)
            return Answer(answer.status, answer.headers, answer.body, delay=0.05)

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            results = await bench.deliver(records)
            all_delivered(results, records)
            assert min(bench.http.asked) >= 5, (
                f"a request may take only {min(bench.http.asked):g} s; allow at least 5 s"
            )
            self.nothing_lost(bench, records)

        self.run(check, plan)

    def test_a_broken_connection_loses_nothing(self) -> None:
        """A connection that breaks during the request or the answer says nothing about the records.

        They are sent again. Fix: let NoAnswer pass.
        """
        self.needs("test_a_broken_connection_loses_nothing")
        faults = iter(
            (Answer(fault="reset_request"), Answer(fault="reset_answer"), Answer(fault="reset_request"))
        )

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            all_delivered(await bench.deliver(records), records)
            self.nothing_lost(bench, records)

        self.run(check, self.first(3, lambda request: next(faults)))

    def test_413_is_split(self) -> None:
        """413: the records are sent in halves until each request is small enough.

        A record that is too large on its own is rejected as too_large, and no other record. Fix: return
        Split().
        """
        self.needs("test_413_is_split")
        large: list[str] = []

        def plan(request: Received) -> Answer:
            found = self.ids_in(request)
            if len(found) > 2 or any(i in large for i in found):
                return self.refused(request, 413, {})
            return self.accepted(request)

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=8)
            large.append(records[POISONED].id)
            results = await bench.deliver(records)
            self.triggered(bench)
            self.only_rejected(results, records, POISONED)
            verdict = results[records[POISONED].id].verdict
            assert isinstance(verdict, Rejected)
            assert verdict.reason == "too_large", (
                f"the record that is too large on its own is rejected as {verdict.reason!r}, not too_large"
            )
            self.nothing_lost(bench, [r for r in records if r.id not in large])

        self.run(check, plan)

    def test_a_poison_record_is_found(self) -> None:
        """400: something in the batch is wrong; only the wrong record becomes a dead letter.

        Fix: return one Rejected for the whole batch, which the runner then splits, or one outcome per
        record if the answer names the record.
        """
        self.needs("test_a_poison_record_is_found")
        poison: list[str] = []

        def plan(request: Received) -> Answer:
            bad = any(i in poison for i in self.ids_in(request))
            return self.refused(request, 400, {}) if bad else self.accepted(request)

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=8)
            poison.append(records[POISONED].id)
            results = await bench.deliver(records)
            self.triggered(bench)
            self.only_rejected(results, records, POISONED)
            self.nothing_lost(bench, [r for r in records if r.id not in poison])

        self.run(check, plan)

    def test_a_partial_success_is_told_apart(self) -> None:
        """An answer may accept all records except some.

        Those are Rejected, or counted as unidentified; the others are Delivered and not sent again.
        """
        self.needs("test_a_partial_success_is_told_apart")
        bad: list[str] = []
        said = 0

        def plan(request: Received) -> Answer:
            nonlocal said
            answer = None
            if any(i in bad for i in self.ids_in(request)):
                answer = self.partial(request, bad)
            said += answer is not None
            return self.accepted(request) if answer is None else answer

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=6)
            bad.append(records[POISONED].id)
            results = await bench.deliver(records)
            if not said:
                self.skip("the vendor has no partial success (see `partial`)")
            unidentified = sum(f.unidentified for f in results.values())
            refused = [r.id for r in records if isinstance(results[r.id].verdict, Rejected)]
            assert refused == bad or (not refused and unidentified == 1), (
                f"one record was refused, but {len(refused)} are rejected and {unidentified} unidentified"
            )
            times = [
                sum(r.id in self.ids_in(q) for q in bench.requests if q.accepted)
                for r in records
                if r.id not in bad
            ]
            once = [
                sum(r.id in self.ids_in(q) for q in bench.requests[:1]) for r in records if r.id not in bad
            ]
            assert sum(times) <= max(sum(once), len(times)), "accepted records are sent again"

        self.run(check, plan)

    def test_partitions_do_not_mix(self) -> None:
        """`send` runs for several partitions concurrently; each call has its own batch and outcome.

        Fix: keep nothing of a batch in `self`.
        """
        self.needs("test_partitions_do_not_mix", http=False)

        async def check(bench: Bench) -> None:
            parts = [self.records(bench.sink, 3, 1000 * (p + 1)) for p in range(4)]
            for part, results in zip(parts, await asyncio.gather(*map(bench.deliver, parts)), strict=True):
                all_delivered(results, part)
                self.nothing_lost(bench, part)

        self.run(check)

    def test_a_stop_leaves_nothing_half_done(self) -> None:
        """`send` may be cancelled while it waits.

        It must end at once with CancelledError, leave no task behind, and the next `send` must work
        normally. Fix: no `except BaseException`, no flags that stay set, no tasks that are not awaited.
        """
        self.needs("test_a_stop_leaves_nothing_half_done")

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            assert bench.server is not None
            before = asyncio.all_tasks()
            sending = asyncio.create_task(bench.batch_sender.deliver(Batch(tuple(r.item for r in records))))
            assert await asyncio.to_thread(bench.server.wait, 1), "no request was made"
            sending.cancel()
            done, _ = await asyncio.wait({sending}, timeout=30)
            assert done, "send continues after it was cancelled"
            assert sending.cancelled(), "send swallows its cancellation"
            for _ in range(20):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - before - {sending}
            assert not left, f"send leaves tasks behind: {[t.get_coro() for t in left]}"
            bench.server.plan = self.accepted
            again = self.records(bench.sink, count=4)
            all_delivered(await bench.deliver(again), again)
            self.nothing_lost(bench, again)

        self.run(check, self.first(1, lambda request: Answer(fault="hang")))

    # -- shared by several checks
    def nothing_lost(self, bench: Bench, records: Sequence[Record]) -> None:
        """Fails unless each record is in an accepted request."""
        if bench.server is None:
            return
        self.triggered(bench)
        lost = {r.id: r for r in records}.keys() - self.stored(bench)
        assert not lost, (
            f"{len(lost)} of {len(records)} records count as delivered but are in no accepted request"
        )

    def only_rejected(self, results: dict[str, RecordResult], records: Sequence[Record], bad: int) -> None:
        """Fails unless record `bad` was rejected and the others were delivered."""
        found = [i for i, r in enumerate(records) if isinstance(results[r.id].verdict, Rejected)]
        assert found == [bad], f"only record {bad} is wrong, but the rejected records are {found}"
        all_delivered(results | {records[bad].id: RecordResult(Delivered(), 1)}, records)

    def _is_retried(self, status: int) -> None:
        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            all_delivered(await bench.deliver(records), records)
            assert bench.slept, f"status {status} is not retried after a wait"
            self.nothing_lost(bench, records)

        self.run(check, self.first(2, self.status(status)))


def _json(request: Received) -> None:
    """Fails unless the body is JSON, or JSON lines."""
    kind = request.headers["content-type"]
    try:
        text = request.body.decode()
        parts = text.split("\n") if any(w in kind for w in ("ndjson", "jsonl", "json-lines")) else [text]
        for part in filter(None, parts):
            json.loads(part, parse_constant=_refused)
    except ValueError as e:
        raise AssertionError(f"the body is declared as {kind} but is not: {e}") from None


def _refused(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _parting(first: bytes, again: bytes) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(first, again, strict=False)) if a != b), min(len(first), len(again))
    )
    return f"{first[max(0, at - 30) : at + 30]!r} and {again[max(0, at - 30) : at + 30]!r}"
