"""One real broker for all tests of a run, started for the first test that needs it; options and the seed."""

from __future__ import annotations

import random
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from confluent_kafka.admin import AdminClient

from tailrace import topics
from tailrace.broker import Broker
from tailrace.settings import Settings, convert
from tools import compiling

hypothesis.settings.register_profile("tests", deadline=None)  # slow is not wrong on a busy machine
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with SIGINT ignored, and what these start inherits that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if old := compiling.stale(compiling.ROOT):
        pytest.exit(
            f"{', '.join(old)}: newer than what was compiled of it; run `make compile`, or `make pure`", 2
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, help="seed of the crash tests; default: another one each run, printed"
    )
    parser.addoption(
        "--full", action="store_true", help="crash tests at full size, as `make test-crash` runs them"
    )
    parser.addoption(
        "--vendors",
        action="store_true",
        help="also ask a real schema registry; downloads it once, to ~/.cache/tailrace/vendors",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --vendors, tests that need a real schema registry are skipped, and say so.

    Files with the most broker tests come first: `make test` deals files out to two processes in this order,
    so that short ones are left for the end."""
    weights = Counter(item.path for item in items if item.get_closest_marker("kafka"))
    items.sort(key=lambda item: -weights[item.path])
    if not config.getoption("--vendors"):
        for item in items:
            if item.get_closest_marker("vendors"):
                item.add_marker(pytest.mark.skip(reason="needs a real schema registry: run with --vendors"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("--seed")
    chosen = random.randrange(1_000_000) if given is None else int(given)
    print(f"seed {chosen} (repeat with --seed {chosen})")
    return chosen


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the crash tests run at full size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running


@pytest.fixture
def topics_settings(broker: Broker) -> Callable[..., Settings]:
    """Makes settings with topics of their own, and the topics.

    `topics_settings(partitions=2, publisher={…})`. client: properties of the Kafka client. publisher: that
    section of the settings. create: False leaves the topics out. Everything else goes into the section
    `topics`.
    """

    def make(
        *,
        client: dict[str, str] | None = None,
        publisher: dict[str, Any] | None = None,
        create: bool = True,
        **section: Any,
    ) -> Settings:
        values = {
            "kafka": {"bootstrap_servers": broker.bootstrap_servers, "client": client or {}},
            "topics": {"prefix": f"t{uuid.uuid4().hex[:12]}.", **section},
            "publisher": publisher or {},
        }
        settings = convert(values, Settings, "")
        if create:
            topics.create(AdminClient({"bootstrap.servers": broker.bootstrap_servers}), settings.topics)
        return settings

    return make
