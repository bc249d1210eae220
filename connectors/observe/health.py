"""Health, readiness and metrics of `tailrace connect` over HTTP."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from connectors.consumer.sink_supervisor import SinkSupervisor
from connectors.consumer.status import pause_class
from tailrace.errors import ConfigError
from tailrace.observe.server import Page, Server, verdict, with_index
from tailrace.settings import Connect

log: Final = logging.getLogger("tailrace.connect")

SILENT_SECONDS: Final = 120.0
"""A sink's consumer loop runs at least this often, in addition to the time a drain may take.

Fetching committed offsets from a cluster that is moving partitions may take a minute.
"""
TRIES: Final = 20
"""Ports to try after the configured one, which other processes of this host may use."""


def unhealthy(sinks: Sequence[SinkSupervisor], drain: float) -> list[str]:
    """Reasons to restart this process; empty if it is healthy.

    A sink that waits, is paused or has failed with a known reason does not count: the others continue.
    """
    return [
        f"{s.name}: its consumer loop has not run for {s.silent():.0f} s"
        for s in sinks
        if s.silent() > SILENT_SECONDS + drain
    ]


def unready(sinks: Sequence[SinkSupervisor], drain: float) -> list[str]:
    """Reasons why not every sink works; empty if each does or the group has no partition for it."""
    reasons = unhealthy(sinks, drain)
    for sink in sinks:
        status = sink.status()
        if status.state == "waiting":
            reasons.append(f"{sink.name}: waiting for Kafka and the topics")
        elif status.state != "running":
            reasons.append(f"{sink.name}: {status.state}")
        elif not sink.joined:
            reasons.append(f"{sink.name}: joining the group")
        elif status.paused:
            reasons.append(f"{sink.name}: paused ({pause_class(status.paused)})")
    return reasons


def pages(
    sinks: Sequence[SinkSupervisor], drain: float, metrics: Callable[[], tuple[str, bytes]] | None
) -> dict[str, Page]:
    """The pages by path.

    Args:
        metrics: returns content type and body of /metrics; None: no such page.
    """

    def states() -> dict[str, str]:
        return {s.name: s.status().state for s in sinks}

    found: dict[str, Page] = {
        "/healthz": lambda: verdict(unhealthy(sinks, drain), sinks=states()),
        "/readyz": lambda: verdict(unready(sinks, drain), sinks=states()),
    }
    if metrics is not None:
        found["/metrics"] = lambda: (HTTPStatus.OK, *metrics())
    return with_index(found)


def serve(settings: Connect, found: Mapping[str, Page]) -> Server:
    """Starts the HTTP server. Raises `ConfigError`."""
    host, port = settings.http_host, settings.http_port
    try:
        server = Server(host, port, found, TRIES)
    except OSError as e:
        raise ConfigError(f"connect.http_host, connect.http_port: {host}:{port}: {e.strerror or e}") from None
    taken = "" if server.server_port == port else f" (port {port} is in use)"
    log.info("%s%s%s", server.url, ", ".join(p.lstrip("/") for p in found if p != "/"), taken)
    return server


@contextmanager
def observing(
    settings: Connect, sinks: Sequence[SinkSupervisor], env: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Serves probes and metrics until the end of the block. Raises `ConfigError`.

    Without OpenTelemetry's SDK there are no metrics, but the probes work.
    """
    if not settings.http_port and not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in env):
        yield
        return
    telemetry = server = None
    try:
        from connectors.observe.telemetry import Telemetry

        telemetry = Telemetry(sinks, f"{socket.gethostname()}-{os.getpid()}", env)
    except ModuleNotFoundError as e:
        log.warning("no metrics: they need the package %s: pip install 'tailrace[connectors]'", e.name)
    try:
        if settings.http_port:
            server = serve(
                settings, pages(sinks, settings.drain_seconds, telemetry.metrics if telemetry else None)
            )
        yield
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
        if telemetry is not None:
            telemetry.close()
