"""One real broker for all tests of a run, started when the first of them asks for it; the seed of the crash tests."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tailrace.broker import Broker


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="seed of the crash tests; default: another one each run, printed")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("--seed")
    chosen = random.randrange(1_000_000) if given is None else int(given)
    print(f"seed {chosen} (repeat with --seed {chosen})")
    return chosen


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running
