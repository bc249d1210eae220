"""What each built-in sink does at every HTTP status: one table, and where a vendor differs. The rules stand
here again, so that a change to the shared table that moves a vendor is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest

from connectors import Batch, Delivered, Outcome, Paused, Payload, Rejected, Response, Retry, Split
from connectors.sdk.contract import Item, RecordOrigin
from tests.connectors.vendors import VENDORS, Statuses
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


def wanted(vendor: Statuses, status: int) -> Outcome:
    if status in vendor.outcomes:
        return vendor.outcomes[status]
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
    sink = VENDORS[name].make()
    payload = sink.map(golden()["node_llm"])
    assert isinstance(payload, Payload)
    batch = Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),))

    async def send_all() -> dict[int, Any]:
        return {status: await sink.send(batch, Answering(status)) for status in range(100, 700)}

    found = {
        status: msgspec.structs.replace(o, request=None) if isinstance(o, Rejected) else o
        for status, o in asyncio.run(send_all()).items()
    }
    assert found == {status: wanted(VENDORS[name].statuses, status) for status in range(100, 700)}
