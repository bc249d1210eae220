"""Jaeger 2 with its store in memory: takes OTLP, and answers its own two APIs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.backends.cache import JAEGER, built
from tests.backends.collector import PATIENCE, QUIET, free_ports, listens, otlp_receiver
from tests.harness.processes import Child, wait_until

TRACES: Final = 100_000
"""Most traces that it keeps."""


class Jaeger:
    """One server. What it holds is lost when it ends."""

    def __init__(self, folder: Path) -> None:
        http, grpc, query, query_grpc = free_ports(4)
        self.http, self.grpc = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}"
        self.query = f"http://127.0.0.1:{query}"
        self._ports = (http, grpc, query)
        config = {
            "extensions": {
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": TRACES}}}},
                "jaeger_query": {
                    "storage": {"traces": "memory"},
                    "http": {"endpoint": f"127.0.0.1:{query}"},
                    "grpc": {"endpoint": f"127.0.0.1:{query_grpc}"},
                },
            },
            "receivers": otlp_receiver(http, grpc),
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
            "service": {
                **QUIET,
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            },
        }
        (folder / "jaeger.yaml").write_text(json.dumps(config))  # JSON is YAML
        command = [str(built(JAEGER)), "--config", str(folder / "jaeger.yaml")]
        self.child = Child(command, {}, folder / "jaeger.log", cwd=folder)

    def __enter__(self) -> Self:
        self.child.start()
        wait_until(lambda: all(map(listens, self._ports)), PATIENCE, "Jaeger listens", alive=(self.child,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.close()

    def endpoint(self, protocol: str) -> str:
        return self.grpc if protocol == "grpc" else self.http

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """A trace as OTLP/JSON, as it is stored, by the API of version 3; None if it has none of this id.

        Every copy of a span is in it. Without `raw_traces` Jaeger adds what it finds odd, such as a parent
        that is not there, as attributes, in its store in memory too.
        """
        found = self._get(f"/api/v3/traces/{trace_id}?raw_traces=true")
        return None if found is None else found["result"]

    def parents(self, trace_id: str) -> dict[str, str]:
        """Span id -> its parent's id or nothing, by the API that the user interface reads.

        Raises AssertionError if that shows a span twice.
        """
        found = self._get(f"/api/traces/{trace_id}")
        assert found is not None, f"no trace {trace_id}"
        [trace] = found["data"]
        parents = {
            span["spanID"]: next((r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"), "")
            for span in trace["spans"]
        }
        assert len(parents) == len(trace["spans"]), f"trace {trace_id} shows spans twice"
        return parents

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(self.query + path, timeout=PATIENCE) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return None
            raise
