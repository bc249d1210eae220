"""The five backends of the demo: a double each, the settings of its sink, and how it is read back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from connectors.testing.doubles.received import read_spans
from examples.demo import held
from examples.demo.held import Traces

Ready = Mapping[str, str]
"""What a double says of itself when it is ready."""
KEY: Final = "demo"
"""Stands for the keys and the projects that have to be named."""
SECONDS: Final = 60.0
"""Most that a double takes to answer what it holds, which is some 10 MB."""


class Backend(NamedTuple):
    """One backend, and the sink that sends to it, which has its name."""

    title: str
    unit: str
    """What an operation is called there."""
    settings: Callable[[Ready], dict[str, str]]
    """Of the sink."""
    state: Callable[[Ready], str]
    """Where its double shows what it holds: a URL; the OTLP receiver's is a file."""
    traces: Callable[[Any], Traces]
    """What it has of each trace, from what is there."""


def _at_endpoint(ready: Ready) -> str:
    return ready["endpoint"] + "/_state"


BACKENDS: Final = {
    "langfuse": Backend(
        "Langfuse",
        "observations",
        lambda ready: {
            "host": ready["endpoint"],
            "public_key": ready["public_key"],
            "secret_key": ready["secret_key"],
        },
        _at_endpoint,
        held.langfuse,
    ),
    "opik": Backend(
        "Opik",
        "spans",
        lambda ready: {"url": ready["url"], "project_name": KEY},
        lambda ready: ready["url"].removesuffix("/api") + "/_state",
        held.opik,
    ),
    "weave": Backend(
        "Weave",
        "calls",
        lambda ready: {"host": ready["host"], "api_key": KEY, "project": KEY},
        lambda ready: ready["host"] + "/_state",
        held.weave,
    ),
    "alibaba": Backend(
        "Alibaba Cloud",
        "spans",
        lambda ready: {"endpoint": ready["endpoint"], "license_key": KEY},
        _at_endpoint,
        held.alibaba,
    ),
    "otlp": Backend(
        "OTLP",
        "spans",
        lambda ready: {"endpoint": ready["endpoint"]},
        lambda ready: ready["file"],
        held.otlp,
    ),
}
"""Name of the sink -> its backend, in the order of the picture in README.md."""


def command(name: str, spans: Path) -> list[str]:
    """The arguments with which Python runs a backend's double. It says on a line of JSON when it is ready.

    Args:
        name: Of the sink.
        spans: The file in which the OTLP receiver keeps what it gets.
    """
    own = {"alibaba": ["--license-key", KEY], "otlp": ["--file", str(spans)]}
    return ["-m", f"connectors.testing.doubles.{name}", "--json", *own.get(name, [])]


def environment(ready: Mapping[str, Ready]) -> dict[str, str]:
    """The settings of all sinks as environment variables, where no other user sees the keys."""
    return {
        f"TAILRACE_SINKS_{name.upper()}_{key.upper()}": value
        for name, of in ready.items()
        for key, value in BACKENDS[name].settings(of).items()
    }


def read(name: str, ready: Ready) -> Traces:
    """What a backend has, asked of the backend. Raises OSError, ValueError."""
    backend = BACKENDS[name]
    where = backend.state(ready)
    if name == "otlp":
        return backend.traces(read_spans(Path(where)))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(where, timeout=SECONDS) as answer:
        return backend.traces(json.load(answer, parse_float=Decimal))
