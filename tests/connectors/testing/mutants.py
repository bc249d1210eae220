"""One broken sink for each check of the conformance kit."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from connectors import (
    Batch,
    Delivered,
    Enriched,
    Health,
    Http,
    NoAnswer,
    Outcomes,
    Paused,
    Payload,
    Rejected,
    Response,
    Retry,
    Secret,
    Skip,
    sink,
)
from tests.connectors.testing.reference_sink import Good, Options

MUTANTS: Final[dict[str, type[Any]]] = {}
"""Class name -> the mutant."""
FAILS: Final[dict[str, str]] = {}
"""Class name -> the check that it must fail."""


def mutant(check: str, fields: Collection[str] | None = None) -> Callable[[type[Any]], type[Any]]:
    """Adds a class, as a sink of its own, that fails this check.

    Args:
        fields: The fields that it names; None: it gets all.
    """

    def add(cls: type[Any]) -> type[Any]:
        cls.__doc__ = "Operations as a JSON array, wrong." if cls.__doc__ is None else cls.__doc__
        made: type[Any] = sink("mutant", max_records=50, max_bytes=1_000_000, fields=fields)(cls)
        MUTANTS[cls.__name__], FAILS[cls.__name__] = made, check
        return made

    return add


def on(status: int, outcome: Callable[[Response], Outcomes]) -> type[Good]:
    """Answers one status differently."""

    class Different(Good):
        def decide(self, answer: Response) -> Outcomes:
            return outcome(answer) if answer.status == status else super().decide(answer)

    return Different


# -- map
@mutant("test_the_sink_describes_itself")
class TakesAnySetting(Good):
    class Settings(msgspec.Struct, frozen=True):
        endpoint: str
        api_key: Secret = ""
        timeout: float = 20.0


@mutant("test_the_sink_describes_itself")
class SaysNothing(Good):
    __doc__ = ""


@mutant("test_map_answers_for_every_kind")
class AnswersNone(Good):
    def map(self, record: Enriched) -> Any:
        found = super().map(record)
        return None if isinstance(found, Skip) else found


@mutant("test_map_is_total")
class NeedsAPrice(Good):
    def map(self, record: Enriched) -> Payload | Skip | Rejected:
        if record.event.total_price == "free":
            raise ValueError("no decimal")
        return super().map(record)


@mutant("test_map_is_total")
class NeedsContent(Good):
    def map(self, record: Enriched) -> Payload | Skip | Rejected:
        if record.event.inputs == "{not json":
            json.loads(record.event.inputs)
        return super().map(record)


@mutant("test_map_changes_nothing")
class Pops(Good):
    def document(self, record: Enriched) -> dict[str, Any]:
        tags: Any = record.event.tags
        # idempotent: the payload is the same each time
        if tags and tags[-1] != "seen":
            tags.append("seen")
        return super().document(record)


@mutant("test_map_remembers_nothing")
class Counts(Good):
    def __init__(self, settings: Options) -> None:
        super().__init__(settings)
        self._seen = 0

    def document(self, record: Enriched) -> dict[str, Any]:
        if not (record.event.name or "").startswith("chat"):
            return super().document(record)
        self._seen += 1
        return {**super().document(record), "n": self._seen}


@mutant("test_identity_is_the_events")
class KeyedByOffset(Good):
    def document(self, record: Enriched) -> dict[str, Any]:
        return {**super().document(record), "key": f"{record.partition}-{record.offset}"}


_READ: Final = frozenset({"error", "inputs", "name", "user_id"})
"""What the reference sink reads and the runner does not decode anyway."""


@mutant("test_fields_names_all_that_map_reads", _READ - {"user_id"})
class LeavesOutAField(Good):
    pass


@mutant("test_fields_names_all_that_map_reads", _READ)
class LeavesOutASecondChoice(Good):
    """Operations as a JSON array. Samples never show the field: their contexts have the name."""

    def document(self, record: Enriched) -> dict[str, Any]:
        app = record.context.app_name or record.event.app_name
        return {**super().document(record), "app": app}


@mutant("test_identity_is_the_events")
class KeyedByDay(Good):
    def document(self, record: Enriched) -> dict[str, Any]:
        import time

        return {**super().document(record), "day": int(time.time()) // 86_400}


@mutant("test_a_payload_says_its_size")
class SaysOneByte(Good):
    def size(self, body: bytes) -> int:
        return 1


@mutant("test_a_payload_says_its_size")
class SaysMegabytes(Good):
    def size(self, body: bytes) -> int:
        return 400_000


@mutant("test_render_is_json")
class RendersBytes(Good):
    def render(self, payload: Payload) -> Any:
        return {"body": payload.body}


# -- send
@mutant("test_a_batch_is_delivered")
class LeavesTheLastBehind(Good):
    """Drops the last record of a large batch."""

    def body(self, batch: Batch) -> bytes:
        bodies = batch.bodies
        return b"[" + b",".join(bodies[:-1] if len(bodies) > 15 else bodies) + b"]"


@mutant("test_records_go_in_order")
class Backwards(Good):
    def body(self, batch: Batch) -> bytes:
        return b"[" + b",".join(reversed(batch.bodies)) + b"]"

    def partly(self, answer: Response, batch: Batch) -> Outcomes:
        found = super().partly(answer, batch)
        return list(reversed(found)) if isinstance(found, list) else found


@mutant("test_text_arrives_whole")
class Ascii(Good):
    async def post(self, http: Http, body: bytes) -> Response:
        return await super().post(http, body.decode().encode("ascii"))


@mutant("test_429_waits_as_long_as_it_says")
class InAHurry(on(429, lambda answer: Retry(reason="too many"))):  # type: ignore[misc]
    pass


@mutant("test_429_without_a_time_is_retried")
class NeedsATime(Good):
    """Rejects a 429 without Retry-After. Only scripted answers: the check with rubbish answers must pass."""

    def decide(self, answer: Response) -> Outcomes:
        if answer.status == 429 and "retry-after" not in answer.headers and b"scripted" in answer.body:
            return Rejected("no_time")
        return super().decide(answer)


@mutant("test_500_is_retried")
class Rejects500(on(500, lambda answer: Rejected("server_error"))):  # type: ignore[misc]
    pass


@mutant("test_502_503_and_504_are_retried")
class Rejects504(on(504, lambda answer: Rejected("gateway"))):  # type: ignore[misc]
    pass


@mutant("test_a_redelivery_is_the_same_request")
class NumbersItsRequests(Good):
    def __init__(self, settings: Options) -> None:
        super().__init__(settings)
        self._number = 0

    def body(self, batch: Batch) -> bytes:
        self._number += 1
        return super().body(batch)[:-1] + b',{"request":%d}]' % self._number


@mutant("test_a_hang_is_retried")
class TakesSilenceForConsent(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        try:
            return await super().send(batch, http)
        except NoAnswer as e:
            if e.reason == "timeout":
                return Delivered()
            raise


@mutant("test_a_slow_answer_is_waited_for")
class Impatient(Good):
    async def post(self, http: Http, body: bytes) -> Response:
        return await http.request("POST", self._settings_endpoint, body, self._headers, seconds=4.0)


@mutant("test_a_broken_connection_loses_nothing")
class TakesAResetForConsent(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        try:
            return await super().send(batch, http)
        except NoAnswer as e:
            if e.reason == "broken":
                return Delivered()
            raise


@mutant("test_413_is_split")
class Repeats413(on(413, lambda answer: Retry(reason="too large"))):  # type: ignore[misc]
    pass


@mutant("test_413_is_split")
class Rejects413(on(413, lambda answer: Rejected("rejected", status=413))):  # type: ignore[misc]
    pass


@mutant("test_a_poison_record_is_found")
class Repeats400(on(400, lambda answer: Retry(reason="bad"))):  # type: ignore[misc]
    pass


@mutant("test_a_poison_record_is_found")
class RejectsAllOf400(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        found = await super().send(batch, http)
        return [found] * len(batch) if isinstance(found, Rejected) and found.status == 400 else found


@mutant("test_a_partial_success_is_told_apart")
class SeesNoPart(Good):
    def partly(self, answer: Response, batch: Batch) -> Outcomes:
        return Delivered()


@mutant("test_a_partial_success_is_told_apart")
class SendsTheGoodOnesAgain(Good):
    def partly(self, answer: Response, batch: Batch) -> Outcomes:
        found = super().partly(answer, batch)
        return Rejected("refused") if isinstance(found, list) else found


@mutant("test_partitions_do_not_mix")
class OneBatchForAll(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        self._batch = batch
        await asyncio.sleep(0)
        return await super().send(self._batch, http)


@mutant("test_a_stop_leaves_nothing_half_done")
class StaysBusy(Good):
    """Keeps a partition's turn when it is cancelled."""

    _stopped = False

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        if self._stopped:
            return Retry(reason="busy")
        try:
            return await super().send(batch, http)
        except asyncio.CancelledError:
            self._stopped = True
            raise


@mutant("test_a_stop_leaves_nothing_half_done")
class SwallowsTheStop(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        try:
            return await super().send(batch, http)
        except asyncio.CancelledError:
            return Delivered()


@mutant("test_a_stop_leaves_nothing_half_done")
class LeavesATask(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        self._task = asyncio.create_task(super().send(batch, http))
        return await asyncio.shield(self._task)


# -- refusals
@mutant("test_401_pauses_and_names_the_setting")
class NamesNoSetting(Good):
    def decide(self, answer: Response) -> Outcomes:
        found = super().decide(answer)
        return msgspec.structs.replace(found, fix="") if isinstance(found, Paused) else found

    async def check(self, http: Http) -> Health:
        found = await super().check(http)
        return found if found.ok else Health(False, f"{found.detail} api_key")


@mutant("test_401_pauses_and_names_the_setting")
class Repeats401(on(401, lambda answer: Retry(reason="unauthorized"))):  # type: ignore[misc]
    async def check(self, http: Http) -> Health:
        found = await super().check(http)
        return found if found.ok else Health(False, f"{found.detail} api_key")


@mutant("test_403_holds_everything_back")
class Rejects403(on(403, lambda answer: Rejected("forbidden"))):  # type: ignore[misc]
    pass


@mutant("test_404_holds_everything_back")
class Rejects404(on(404, lambda answer: Rejected("not_found"))):  # type: ignore[misc]
    pass


@mutant("test_redirects_are_not_followed")
class Follows(Good):
    async def post(self, http: Http, body: bytes) -> Response:
        answer = await super().post(http, body)
        if answer.status // 100 != 3:
            return answer
        url = self._settings_endpoint + answer.headers["location"]
        return await http.request("POST", url, body, self._headers)


@mutant("test_redirects_are_not_followed")
class TakesARedirectForConsent(Good):
    def decide(self, answer: Response) -> Outcomes:
        return Delivered() if answer.status // 100 == 3 else super().decide(answer)


@mutant("test_rubbish_answers_are_taken")
class BelievesInJson(Good):
    def decide(self, answer: Response) -> Outcomes:
        if 0 < len(answer.body) < 60_000 and answer.headers.get("content-type") == "application/json":
            json.loads(answer.body)
        return super().decide(answer)


@mutant("test_huge_answers_are_taken")
class ReadsLongAnswersOnly(Good):
    def decide(self, answer: Response) -> Outcomes:
        if len(answer.body) > 60_000:
            json.loads(answer.body)
        return super().decide(answer)


# -- check
@mutant("test_check_finds_a_sink_that_works")
class NeverWell(Good):
    async def check(self, http: Http) -> Health:
        return Health(False, "api_key?")


@mutant("test_check_finds_a_wrong_key")
class AlwaysWell(Good):
    async def check(self, http: Http) -> Health:
        found = await super().check(http)
        return Health(True) if "401" in found.detail else found


@mutant("test_check_finds_a_wrong_key")
class SaysNotWhichSetting(Good):
    async def check(self, http: Http) -> Health:
        found = await super().check(http)
        return Health(False, "no") if "401" in found.detail else found


@mutant("test_check_finds_that_nobody_is_there")
class LetsNoAnswerPass(Good):
    async def check(self, http: Http) -> Health:
        await self.post(http, b"[]")
        return await super().check(http)


# -- secrets
@mutant("test_an_echoed_key_is_not_passed_on")
class Quotes(Good):
    def detail(self, answer: Response) -> str:
        return answer.body[:500].decode("utf-8", "replace") if answer.status // 100 != 2 else ""


@mutant("test_an_echoed_key_is_not_passed_on")
class Logs(Good):
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        logging.getLogger("acme").debug("sending with %s", self._headers)
        return await super().send(batch, http)


@mutant("test_an_echoed_key_is_not_passed_on")
class QuotesTheHeader(Good):
    """Masks the key itself, but not the header that is made of it."""

    def __init__(self, settings: Options) -> None:
        super().__init__(settings)
        import base64

        self._headers["Authorization"] = (
            "Basic " + base64.b64encode(f"me:{settings.api_key}".encode()).decode()
        )


@mutant("test_a_key_is_in_no_repr_and_no_payload")
@dataclasses.dataclass
class Repr(Good):
    settings: Options

    def __post_init__(self) -> None:
        Good.__init__(self, self.settings)


@mutant("test_a_key_is_in_no_repr_and_no_payload")
class SendsTheKeyInTheBody(Good):
    def document(self, record: Enriched) -> dict[str, Any]:
        return {**super().document(record), "auth": self._secrets[0]}
