"""Makes the requests that a sink would send, and has them judged by the vendor's own models."""

from __future__ import annotations

import asyncio
import base64
import functools
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from connectors.otlp.rendering import as_document
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, Sink, Skip
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered
from tests.connectors.vendors import VENDORS, shipped
from tests.vendor import venvs
from tests.vendor.inside import Request, otlp

INSIDE: Final = Path(__file__).with_name("inside")
_GZIP: Final = 31
"""zlib's number for gzip's header."""
_ORIGIN: Final = RecordOrigin("trace.enriched", 0, 0, 0)


class Capture:
    """An `Http` that keeps requests and answers each with status 200."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.requests: list[Request] = []
        self._settings = settings

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        given = {name.lower(): value for name, value in headers.items()}
        plain = zlib.decompress(body, _GZIP) if given.get("content-encoding") == "gzip" else body
        path = urlsplit(url).path
        kind = given.get("content-type", "")
        if "protobuf" in kind:
            request = Request(method, path, as_document(plain), base64.b64encode(plain).decode())
        else:
            request = Request(method, path, json.loads(plain, parse_constant=_refused))
        self.requests.append(request._replace(settings=self._settings))
        return Response(200, {"content-type": kind}, b"" if request.raw else b"{}")


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def judged() -> list[str]:
    """The shipped sinks that have a judge."""
    return [vendor for vendor in shipped() if (INSIDE / f"{vendor}.py").exists()]


def module_of(vendor: str) -> ModuleType:
    """The vendor's judge."""
    return importlib.import_module(f"tests.vendor.inside.{vendor}")


def variants(vendor: str) -> list[dict[str, str]]:
    """Settings with which a vendor's requests are judged: the sink's defaults first."""
    whole = [dict(VENDORS[vendor].whole)] if VENDORS[vendor].whole else []
    return [{}, *whole, *module_of(vendor).VARIANTS]


def mapped(sink: Sink, records: Iterable[Enriched]) -> Iterator[Payload]:
    """The payloads of the records that the sink sends.

    Raises:
        AssertionError: It rejects one.
    """
    for record in records:
        payload = sink.map(record)
        if isinstance(payload, Payload):
            yield payload
        else:
            assert isinstance(payload, Skip), (record.event.kind, record.event.source_id, payload)


def requests(
    sink: Sink, payloads: Sequence[Payload], most: int, settings: Mapping[str, str]
) -> list[Request]:
    """The requests in which a sink with these settings sends payloads, `most` in a batch."""

    async def send() -> list[Request]:
        http = Capture(settings)
        for start in range(0, len(payloads), most):
            items = tuple(Item(payload, _ORIGIN) for payload in payloads[start : start + most])
            outcomes = await sink.send(Batch(items), http)
            several = outcomes if isinstance(outcomes, Sequence) else [outcomes]
            assert all(isinstance(o, Delivered) and not o.unidentified for o in several), outcomes
        return http.requests

    return asyncio.run(send())


def verdicts(vendor: str, made: Sequence[Request]) -> list[list[str]]:
    """What is wrong with each request, by the vendor's models and, if it is OTLP, by the protocol."""
    found = venvs.judged(vendor, interpreter(vendor), (request._asdict() for request in made))
    if vendor != "otlp":
        for i, request in enumerate(made):
            if otlp.is_otlp(request):
                found[i] += otlp.problems(request)
    return found


@functools.cache
def interpreter(vendor: str) -> Any:
    return venvs.python(*module_of(vendor).REQUIRES)
