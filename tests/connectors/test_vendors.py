"""The list of vendors' sinks is complete, and what it says of them is right."""

from __future__ import annotations

import msgspec
import pytest

from connectors.config.instances import sink_class
from connectors.config.secrets import is_secret
from connectors.sdk.contract import spec_of
from tests.connectors.vendors import VENDORS, shipped


def test_every_sink_of_a_vendor_is_listed() -> None:
    assert sorted(VENDORS) == shipped(), "tests/connectors/vendors.py: VENDORS"


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_has_its_sink_and_all_its_secrets(name: str) -> None:
    vendor = VENDORS[name]
    assert sink_class(name, name) is vendor.sink
    secret = {f.name for f in msgspec.structs.fields(spec_of(vendor.sink).settings) if is_secret(f.type)}
    assert set(vendor.secrets) == secret
    assert isinstance(vendor.make(**vendor.whole), vendor.sink)
