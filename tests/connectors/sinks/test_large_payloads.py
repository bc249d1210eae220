"""What each sink maps 20 MB of stored content to: no more than its requests may have, and marked."""

from __future__ import annotations

import pytest

from connectors.config.instances import instance
from connectors.content.fitting import fitted
from connectors.sdk.contract import Enriched, Payload
from tailrace.content import Limits
from tailrace.prepare import prepared
from tailrace.settings import load
from tests.connectors.enriching import START, make_context
from tests.connectors.sinks.test_large_content import BYTES, RUN, SIZE, with_sink
from tests.connectors.vendors import VENDORS

EVENT = prepared(RUN, START, Limits(100_000_000)).event
RECORD = Enriched(EVENT, make_context(EVENT), "trace.enriched", 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in VENDORS),
        ("weave", {"view": "agents", "max_bytes": "10000000"}),
    ],
    ids=[*VENDORS, "weave, agents"],
)
def test_a_payload_of_20_mb_is_cut_to_what_a_request_may_have(name: str, settings: dict[str, str]) -> None:
    assert BYTES > SIZE
    vendor = VENDORS[name]
    addressed = vendor.stored.settings(vendor.stored.double())  # nobody serves it, so it has no port yet
    given = {k: v.replace("127.0.0.1:0", "127.0.0.1:1") for k, v in addressed.items()}
    given |= {**vendor.whole, **settings}
    made = instance(with_sink(load(env={}), name, **given), name, env={})
    _, payload = fitted(RECORD, made.sink.map, made.cut_to)
    assert isinstance(payload, Payload)
    assert payload.size <= made.limits.max_bytes
    body = repr(payload.body)
    assert f"cut from {BYTES} bytes" in body
    assert body.count("quoted") > 90_000, "as much as fits is there"
