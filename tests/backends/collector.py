"""The OpenTelemetry Collector with an OTLP receiver, HTTP and gRPC, that writes what it accepts to a file."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tailrace.broker.folder import free_port
from tests.backends.cache import COLLECTOR, built
from tests.harness.processes import Child, wait_until

PATIENCE: Final = 60.0
"""Seconds."""


def otlp_receiver(http: int, grpc: int) -> dict[str, Any]:
    """The receiver's configuration, on these ports."""
    endpoints = {"http": {"endpoint": f"127.0.0.1:{http}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}
    return {"otlp": {"protocols": endpoints}}


QUIET: Final = {"telemetry": {"metrics": {"level": "none"}}}
"""No metrics, which would take a port of their own."""


def free_ports(count: int) -> list[int]:
    """Different ports below the ephemeral range. They are not reserved."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Collector:
    """One server. What it held is in its file until the next start in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "spans.jsonl"
        http, grpc = free_ports(2)
        self.http, self.grpc = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}"
        self._ports = (http, grpc)
        config = {
            "receivers": otlp_receiver(http, grpc),
            "exporters": {"file": {"path": str(self.file), "flush_interval": "50ms"}},
            "service": {**QUIET, "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}}},
        }
        (folder / "collector.yaml").write_text(json.dumps(config))  # JSON is YAML
        command = [str(built(COLLECTOR)), "--config", str(folder / "collector.yaml")]
        self.child = Child(command, {}, folder / "collector.log", cwd=folder)

    def __enter__(self) -> Self:
        self.child.start()
        wait_until(
            lambda: all(map(listens, self._ports)), PATIENCE, "the Collector listens", alive=(self.child,)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.close()

    def endpoint(self, protocol: str) -> str:
        return self.grpc if protocol == "grpc" else self.http

    def documents(self, spans: int) -> list[dict[str, Any]]:
        """The requests that it has accepted, as OTLP/JSON, once there are as many spans in them."""

        def read() -> list[dict[str, Any]] | None:
            lines = self.file.read_bytes().split(b"\n")[:-1] if self.file.exists() else []
            found = [json.loads(line) for line in lines]
            return found if sum(map(_count, found)) >= spans else None

        found = wait_until(read, PATIENCE, f"the file has {spans} spans", alive=(self.child,), every=0.2)
        assert found is not None
        return found


def _count(document: dict[str, Any]) -> int:
    return sum(len(s["spans"]) for g in document["resourceSpans"] for s in g["scopeSpans"])
