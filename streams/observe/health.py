"""A worker's health and readiness over HTTP, in a thread that answers even if the event loop is blocked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from streams.observe.observed import Observed
from streams.observe.stuck import TAKE_OVER
from tailrace.errors import ConfigError
from tailrace.observe.server import Page, Server, verdict, with_index

log: Final = logging.getLogger("streams.observe.health")

LOOP_SECONDS: Final = 10.0
"""The event loop of a healthy worker runs at least this often.

While it takes over partitions, ten times as long is allowed.
"""


def unhealthy(seen: Observed) -> list[str]:
    """Reasons to restart this process; empty if it is healthy. Waiting for Kafka is healthy."""
    reasons = []
    silent = seen.loop_silent()
    if silent > LOOP_SECONDS * (TAKE_OVER if seen.opening else 1):
        reasons.append(f"the event loop has not run for {silent:.0f} s")
    if seen.failed is not None:
        reasons.append(seen.failed)
    if not seen.watching() and not seen.stopping:
        reasons.append("the watchdog does not run")
    return reasons


def unready(seen: Observed) -> list[str]:
    """Reasons why it does not process all its partitions; empty if it does or has none."""
    if seen.stopping:
        return ["stopping"]
    reasons = unhealthy(seen)
    if seen.assigned is None:
        reasons.append(seen.phase)
    elif missing := sorted(seen.assigned.difference(seen.owned())):
        reasons.append(f"taking over partitions {missing}")
    return reasons


def pages(seen: Observed, metrics: Callable[[], tuple[str, bytes]]) -> dict[str, Page]:
    """The pages by path.

    Args:
        metrics: returns content type and body of /metrics.
    """

    found: dict[str, Page] = {
        "/healthz": lambda: verdict(unhealthy(seen), partitions=seen.owned()),
        "/readyz": lambda: verdict(unready(seen), partitions=seen.owned()),
        "/metrics": lambda: (HTTPStatus.OK, *metrics()),
    }
    return with_index(found)


def serve(host: str, port: int, number: int, found: Mapping[str, Page]) -> Server:
    """The server of a host's worker `number`, on port + number. Raises `ConfigError`."""
    try:
        server = Server(host, port + number, found)
    except OSError as e:
        raise ConfigError(
            f"streams.http_host, streams.http_port: {host}:{port + number}: {e.strerror or e}"
        ) from None
    if server.server_port == port + number:
        log.info("worker %d: %shealthz, readyz, metrics", number, server.url)
    else:
        log.warning(
            "worker %d: %shealthz, readyz, metrics (port %d is in use)", number, server.url, port + number
        )
    return server
