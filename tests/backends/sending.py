"""Sends records by a sink with the connector's own HTTP client, without Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, Sink, spec_of
from connectors.sdk.outcomes import Delivered
from tests.golden.events import golden
from tests.harness.recorded import recorded
from tests.vendor.judges import mapped

_ORIGIN = RecordOrigin("trace.enriched", 0, 0, 0)


def records_for(sink: Sink) -> list[Enriched]:
    """The golden events and the recorded runs."""
    fields = spec_of(type(sink)).fields
    return [*golden(fields).values(), *recorded(fields)]


def send(sink: Sink, records: Iterable[Enriched], most: int) -> list[Payload]:
    """Sends them, `most` in a batch. Returns what was sent.

    Raises:
        AssertionError: The sink rejects one, or the server does not accept one.
    """
    payloads = list(mapped(sink, records))

    async def deliver() -> None:
        http = AiohttpTransport()
        try:
            for start in range(0, len(payloads), most):
                items = tuple(Item(payload, _ORIGIN) for payload in payloads[start : start + most])
                outcomes = await sink.send(Batch(items), http)
                several = outcomes if isinstance(outcomes, Sequence) else [outcomes]
                assert all(isinstance(o, Delivered) and not o.unidentified for o in several), outcomes
        finally:
            await http.close()
            close = getattr(sink, "close", None)
            if close is not None:
                await close()

    asyncio.run(deliver())
    return payloads
