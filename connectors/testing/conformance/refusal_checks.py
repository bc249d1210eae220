"""Checks of how a sink handles refusals and bad answers (keys, redirects, garbage), and of its `check`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Health
from connectors.sdk.outcomes import Outcomes, Paused, Rejected
from connectors.testing.conformance.delivery_checks import DeliveryChecks, all_delivered
from connectors.testing.conformance.hostile_server import Answer, Received
from connectors.testing.conformance.kit import Bench

ELSEWHERE = "/kit-elsewhere"


class RefusalChecks(DeliveryChecks):
    def test_401_pauses_and_names_the_setting(self) -> None:
        """401: the key is wrong, not a record.

        The sink pauses, names the setting to look at, dead-letters nothing, and continues by itself
        once the key is right. Fix: return Paused(reason, fix="api_key").
        """
        self.needs("test_401_pauses_and_names_the_setting")
        self._holds(401)

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=2)
            outcomes = await bench.sink.send(Batch(tuple(r.item for r in records)), bench.http)
            paused = [o for o in _each(outcomes) if isinstance(o, Paused)]
            assert paused, f"401 gives {outcomes!r:.200}, must be Paused"
            assert self._named(paused[0].fix), f"Paused does not name a setting: fix={paused[0].fix!r}"

        self.run(check, self.first(1 << 30, self.status(401)))

    def test_403_holds_everything_back(self) -> None:
        """403: the account is not allowed to do this at the moment.

        Nothing is dead-lettered; the sink continues once it is allowed again. Fix: return Paused().
        """
        self.needs("test_403_holds_everything_back")
        self._holds(403)

    def test_404_holds_everything_back(self) -> None:
        """404: the address or the project is wrong, not a record.

        Nothing is dead-lettered, and nothing counts as delivered. Fix: return Paused(reason,
        fix="endpoint").
        """
        self.needs("test_404_holds_everything_back")
        self._holds(404)

    def test_redirects_are_not_followed(self) -> None:
        """A redirect means a wrong address, and is not followed.

        It would send the key and the records to an address that nobody configured, and a POST would
        arrive there as a GET. Fix: return Paused(reason, fix="endpoint").
        """
        self.needs("test_redirects_are_not_followed")
        plans = [self.first(1, self.status(status, Location=ELSEWHERE)) for status in (301, 302, 307, 308)]
        for plan in plans:

            async def check(bench: Bench) -> None:
                records = self.records(bench.sink, count=4)
                results = await bench.deliver(records)
                assert all(r.path != ELSEWHERE for r in bench.requests), "the sink follows a redirect"
                all_delivered(results, records)
                self.nothing_lost(bench, records)

            self.run(check, plan)

    def test_rubbish_answers_are_taken(self) -> None:
        """The body of an answer may be anything: a proxy's HTML, half a JSON document, bytes.

        The status decides; no record is rejected because its answer cannot be read. Fix: guard the
        parsing of bodies, and use them only for details.
        """
        self.needs("test_rubbish_answers_are_taken")
        bodies = (
            b"<html>down</html>",
            b'{"errors": [{"id"',
            b"\xff\xfe\x00",
            b"null",
            b"[]",
            b'"text"',
            b"17",
            b'{"errors": 5}',
        )
        kinds = ("application/json", "application/x-protobuf", "text/html")
        for status in (503, 429, 200):
            rubbish: Iterator[Answer] = iter(
                Answer(status, {"Content-Type": kind}, body) for body in bodies for kind in kinds
            )

            async def check(bench: Bench) -> None:
                records = self.records(bench.sink, count=1)
                for _ in range(len(bodies) * len(kinds)):
                    self._none_rejected(await bench.deliver(records))

            def answer(_: Received, rubbish: Iterator[Answer] = rubbish) -> Answer:
                return next(rubbish)

            self.run(check, self.first(len(bodies) * len(kinds), answer))

    def test_huge_answers_are_taken(self) -> None:
        """An answer of megabytes is not a reason to reject a record. `send` gets only its start."""
        self.needs("test_huge_answers_are_taken")
        answer = Answer(
            503, {"Content-Type": "application/json"}, b'{"message": "' + b"x" * 3_000_000 + b'"}'
        )

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=1)
            all_delivered(await bench.deliver(records), records)
            self.nothing_lost(bench, records)

        self.run(check, self.first(1, lambda request: answer))

    # -- check
    def test_check_finds_a_sink_that_works(self) -> None:
        """`check` returns Health(ok=True) if the vendor accepts.

        `tailrace check SINK` must not report a working sink. Fix: make a request that needs the key and
        changes nothing.
        """
        self.needs("test_check_finds_a_sink_that_works", http=False)
        health = self._health()
        assert health.ok, f"check fails although the vendor accepts: {health.detail}"

    def test_check_finds_a_wrong_key(self) -> None:
        """`check` returns Health(ok=False) for 401, and its detail names the setting to look at.

        `tailrace check SINK` prints that detail.
        """
        self.needs("test_check_finds_a_wrong_key")
        health = self._health(401)
        assert not health.ok, "check passes although the vendor answers 401"
        assert self._named(health.detail), (
            f"the detail does not name a setting of the sink: {health.detail!r}"
        )

    def test_check_finds_that_nobody_is_there(self) -> None:
        """`check` returns Health(ok=False) with a detail if nothing listens at the endpoint.

        Fix: catch NoAnswer.
        """
        self.needs("test_check_finds_that_nobody_is_there")
        with self.unreachable() as endpoint:

            async def check(bench: Bench) -> Health:
                try:
                    return await self.build(endpoint).check(bench.http)
                except Exception as e:
                    raise AssertionError(f"check raised {type(e).__name__} although nothing listens") from e

            health = self.run(check)
        assert not health.ok, "check passes although nothing listens"
        assert health.detail.strip(), "check does not say what is wrong"

    def _health(self, status: int = 0) -> Health:
        async def check(bench: Bench) -> Health:
            try:
                return await bench.sink.check(bench.http)
            except Exception as e:
                raise AssertionError(f"check raised {type(e).__name__}: {e}") from e

        plan = self.first(1 << 30, self.status(status), data=False) if status else None
        health = self.run(check, plan)
        assert isinstance(health, Health), f"check returns {health!r:.80}"
        return health

    def _named(self, text: str) -> bool:
        names = set(self.spec.settings.__struct_fields__)
        return bool(names.intersection(re.findall(r"\w+", text)))

    def _holds(self, status: int) -> None:
        """Nothing is lost or dead-lettered while the vendor answers so; afterwards the sink continues."""

        async def check(bench: Bench) -> None:
            records = self.records(bench.sink, count=4)
            all_delivered(await bench.deliver(records), records)
            assert bench.slept, f"status {status} is retried at once"
            self.nothing_lost(bench, records)

        self.run(check, self.first(3, self.status(status)))

    def _none_rejected(self, results: dict[str, RecordResult]) -> None:
        wrong = [f.verdict for f in results.values() if isinstance(f.verdict, Rejected)]
        assert not wrong, f"a record was rejected because of an unreadable answer: {wrong[0]}"


def _each(outcomes: Outcomes) -> list[object]:
    return list(outcomes) if isinstance(outcomes, list | tuple) else [outcomes]
