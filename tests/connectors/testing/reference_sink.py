"""A sink without faults, from which the mutants of the conformance tests are derived."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

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
    Secret,
    Skip,
    sink,
)
from connectors.sdk import policy, redact


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoint: str
    api_key: Secret = ""
    timeout: float = 20.0


@sink("good", max_records=50, max_bytes=1_000_000)
class Good:
    """Operations as a JSON array."""

    Settings: Any = Options
    kinds_left_out: ClassVar[frozenset[str]] = frozenset({"app_deleted"})

    def __init__(self, settings: Options) -> None:
        self._settings_endpoint, self._timeout = settings.endpoint, settings.timeout
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {settings.api_key}"}
        self._secrets = (settings.api_key,)

    def document(self, record: Enriched) -> dict[str, Any]:
        event = record.event
        return {
            "id": record.context.span_id.hex(),
            "name": event.name,
            "error": event.error,
            "user": event.user_id,
            "at": event.started_at,
            "inputs": event.inputs,
        }

    def map(self, record: Enriched) -> Payload | Skip | Rejected:
        if record.event.kind in self.kinds_left_out:
            return Skip("no_place")
        body = msgspec.json.encode(self.document(record))
        return Payload(body, self.size(body))

    def size(self, body: bytes) -> int:
        return len(body) + 1

    def body(self, batch: Batch) -> bytes:
        return b"[" + b",".join(batch.bodies) + b"]"

    async def post(self, http: Http, body: bytes) -> Response:
        return await http.request("POST", self._settings_endpoint, body, self._headers, seconds=self._timeout)

    def decide(self, answer: Response) -> Outcomes:
        return policy.decide(
            policy.OTLP, answer, time.time(), detail=self.detail(answer), fix="endpoint, api_key"
        )

    def detail(self, answer: Response) -> str:
        if answer.status // 100 == 2:
            return ""
        return redact.masked(redact.clean(answer.body[:500].decode("utf-8", "replace"), 2000), self._secrets)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        answer = await self.post(http, self.body(batch))
        if answer.status == 207:
            return self.partly(answer, batch)
        return self.decide(answer)

    def partly(self, answer: Response, batch: Batch) -> Outcomes:
        """{"refused": [places in the array]}"""
        try:
            refused = {int(i) for i in json.loads(answer.body)["refused"]}
        except (ValueError, KeyError, TypeError):
            return Delivered()
        return [Rejected("refused") if i in refused else Delivered() for i in range(len(batch))]

    async def check(self, http: Http) -> Health:
        try:
            answer = await self.post(http, b"[]")
        except NoAnswer as e:
            return Health(False, str(e))
        match self.decide(answer):
            case Delivered():
                return Health(True)
            case Paused(reason=reason, fix=fix):
                return Health(False, f"{reason}; see {fix}")
            case _:
                return Health(False, f"status {answer.status}")

    def render(self, payload: Payload) -> Any:
        return json.loads(payload.body)
