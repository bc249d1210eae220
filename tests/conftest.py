"""One real broker for all tests of a run, started when the first of them asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tailrace.broker import Broker


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running
