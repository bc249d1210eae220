"""The list of vendors' sinks is complete, and what it says of them is right."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from connectors import Batch, Payload
from connectors.config.instances import sink_class
from connectors.config.secrets import is_secret
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.sdk.contract import Item, RecordOrigin, spec_of
from connectors.testing.doubles.server import Exchange
from tests.connectors.vendors import VENDORS, shipped
from tests.golden.events import golden


def test_every_sink_of_a_vendor_is_listed() -> None:
    assert sorted(VENDORS) == shipped(), "tests/connectors/vendors.py: VENDORS"


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_has_its_sink_and_all_its_secrets(name: str) -> None:
    vendor = VENDORS[name]
    assert sink_class(name, name) is vendor.sink
    secret = {f.name for f in msgspec.structs.fields(spec_of(vendor.sink).settings) if is_secret(f.type)}
    assert set(vendor.secrets) == secret
    assert isinstance(vendor.make(**vendor.whole), vendor.sink)


@pytest.mark.parametrize("name", VENDORS)
def test_a_double_keeps_no_header_with_a_secret(name: str) -> None:
    vendor, secret = VENDORS[name], "secret-of-a-test"
    others = {"headers": {"x-team": secret}} if "headers" in vendor.secrets else {}

    async def exchanges() -> list[Exchange]:
        async with vendor.stored.double() as double:
            settings = {vendor.secrets[0]: secret, **others, **vendor.stored.settings(double)}
            sink, http = vendor.make(**settings), AiohttpTransport()
            payload = sink.map(golden()["node_llm"])
            assert isinstance(payload, Payload)
            try:
                await sink.send(Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),)), http)
            finally:
                await http.close()
            return double.exchanges

    found = asyncio.run(exchanges())
    assert [e.status // 100 for e in found] == [2] * len(found)
    assert found
    for exchange in found:
        assert exchange.headers["content-length"] == str(len(exchange.body))
        assert not vendor.key_headers & exchange.headers.keys()
        assert secret not in str(exchange.headers)
