"""Health and readiness of a worker, and the server that reports them."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from streams.observe.health import pages, serve, unhealthy, unready
from streams.observe.observed import Observed
from tailrace.errors import ConfigError
from tailrace.observe.server import Server
from tests.streams.observe.observing import Loop, partition, worker


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_a_worker_that_waits_for_kafka_is_healthy_but_not_ready() -> None:
    seen = Observed()
    assert (unhealthy(seen), unready(seen)) == ([], ["waiting for Kafka and the topics"])


def test_a_member_is_ready_when_it_works_on_all_that_it_was_given() -> None:
    seen, _ = worker(partition(0), partition(1))
    assert (unhealthy(seen), unready(seen)) == ([], [])
    seen.given({0, 1, 2, 3})
    assert unready(seen) == ["taking over partitions [2, 3]"]
    seen.revoked()
    assert unready(seen) == ["rebalancing"]
    seen.given({0})
    assert unready(seen) == []
    seen.stopping = True
    assert (unhealthy(seen), unready(seen)) == ([], ["stopping"])


def test_a_member_without_partitions_is_ready() -> None:
    seen, _ = worker()
    assert unready(seen) == []


def test_a_stalled_loop_a_verdict_and_a_dead_watchdog_are_unhealthy() -> None:
    seen, clock = worker(partition(0))
    clock.now += 9
    assert unhealthy(seen) == []
    clock.now += 2
    assert unhealthy(seen) == unready(seen) == ["the event loop has not run for 11 s"]
    seen.takes_over({0, 1})
    assert unhealthy(seen) == [], "restoring a large state keeps it busy"
    clock.now += 101
    assert unhealthy(seen) == ["the event loop has not run for 101 s"]
    seen.tick(Loop())
    seen.failed = "hung"
    seen.watching = lambda: False
    assert unhealthy(seen) == ["hung", "the watchdog does not run"]


@pytest.fixture
def seen() -> Observed:
    return worker(partition(0))[0]


@pytest.fixture
def server(seen: Observed) -> Iterator[Server]:
    with serve("127.0.0.1", 0, 0, pages(seen, lambda: ("text/plain", b"x 1\n"))) as running:
        yield running
        running.shutdown()


def test_the_endpoints(server: Server, seen: Observed) -> None:
    url = server.url.rstrip("/")
    assert get(f"{url}/") == (200, "/healthz\n/readyz\n/metrics\n")
    assert get(f"{url}/metrics?x=y") == (200, "x 1\n")
    assert get(f"{url}/else")[0] == 404
    for path in ("/healthz", "/readyz"):
        status, body = get(url + path)
        assert (status, json.loads(body)) == (200, {"ok": True, "reasons": [], "partitions": [0]})
    seen.failed = "hung"
    for path in ("/healthz", "/readyz"):
        status, body = get(url + path)
        assert (status, json.loads(body)) == (503, {"ok": False, "reasons": ["hung"], "partitions": [0]})
    request = urllib.request.Request(f"{url}/metrics", method="HEAD")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert (response.status, response.read()) == (200, b"")


def test_a_page_that_fails_is_an_answer_with_500(seen: Observed) -> None:
    def fails() -> tuple[str, bytes]:
        raise RuntimeError

    with serve("127.0.0.1", 0, 0, pages(seen, fails)) as server:
        assert get(f"{server.url}metrics")[0] == 500
        assert get(f"{server.url}healthz")[0] == 200
        server.shutdown()


def test_a_silent_client_delays_no_other(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)):
        assert get(f"{server.url}healthz")[0] == 200


def test_a_taken_port_is_replaced_by_a_free_one(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with serve("127.0.0.1", server.server_port - 2, 2, {}) as second:
        assert second.server_port not in {server.server_port, 0}
        assert f"port {server.server_port} is in use" in caplog.text
        second.shutdown()


def test_a_port_past_the_last_is_replaced_too() -> None:
    with serve("127.0.0.1", 65535, 3, {}) as server:
        assert get(server.url)[0] == 404
        server.shutdown()


def test_a_foreign_host_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"streams\.http_host"):
        serve("192.0.2.1", 0, 0, {})
