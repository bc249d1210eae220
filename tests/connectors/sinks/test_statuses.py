"""What each built-in sink does at every HTTP status: one table, and where a vendor differs. The rules stand
here again, so that a change to the shared table that moves a vendor is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from connectors import Batch, Delivered, Outcome, Paused, Payload, Rejected, Response, Retry, Split
from connectors.sdk.contract import Item, RecordOrigin
from connectors.sinks.langfuse import Langfuse
from connectors.sinks.opik import Opik
from connectors.sinks.otlp import Otlp
from tests.golden.events import golden

RETRIED: Final = {*range(100, 200), 408, 425, 429, *range(500, 700)} - {501, 505}
REJECTED: Final = {400, 409, 422}
PAUSED: Final = ({*range(300, 500), 501, 505} - RETRIED - REJECTED) - {413}
WHY: Final = {
    401: "unauthorized",
    402: "quota",
    403: "forbidden",
    404: "not_found",
    405: "wrong_method",
    407: "proxy_credentials",
    415: "wrong_media_type",
    431: "headers_too_large",
}


class Vendor(NamedTuple):
    """A sink, and all that its statuses have of their own."""

    sink: Any
    fix: str
    """Settings that a pause names."""
    fixes: Mapping[int, str] = {}
    """The same of single statuses."""
    reasons: Mapping[int, str] = {}
    """Of rejections."""


VENDORS: Final = {
    "otlp": Vendor(Otlp(Otlp.Settings(endpoint="http://h")), "endpoint, api_key, headers"),
    "langfuse": Vendor(
        Langfuse(Langfuse.Settings(public_key="pk-lf-1", secret_key="sk-lf-1")),
        "host",
        fixes={401: "public_key, secret_key", 403: "public_key, secret_key"},
    ),
    "opik": Vendor(
        Opik(Opik.Settings(url="http://h/api")),
        "api_key, workspace",
        fixes={402: "workspace", 404: "url", 405: "url", 415: "url"} | dict.fromkeys(range(300, 400), "url"),
        reasons={409: "id_in_other_project"},
    ),
}


def wanted(vendor: Vendor, status: int) -> Outcome:
    if status in RETRIED:
        return Retry(None, f"status {status}", busy=400 <= status < 500)
    if status in REJECTED:
        return Rejected(vendor.reasons.get(status, "rejected"), f"status {status}", status)
    if status in PAUSED:
        why = WHY.get(status, "redirected" if status < 400 else "refused")
        return Paused(f"{why} (status {status})", vendor.fixes.get(status, vendor.fix))
    return Split(status=413) if status == 413 else Delivered()


class Answering:
    """Answers with one status."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        return Response(self.status)


@pytest.mark.parametrize("name", VENDORS)
def test_what_every_status_means(name: str) -> None:
    vendor = VENDORS[name]
    payload = vendor.sink.map(golden()["node_llm"])
    assert isinstance(payload, Payload)
    batch = Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),))

    async def send_all() -> dict[int, Any]:
        return {status: await vendor.sink.send(batch, Answering(status)) for status in range(100, 700)}

    found = {
        status: msgspec.structs.replace(o, request=None) if isinstance(o, Rejected) else o
        for status, o in asyncio.run(send_all()).items()
    }
    assert found == {status: wanted(vendor, status) for status in range(100, 700)}
