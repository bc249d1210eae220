"""What must arrive at a backend, read from the recording independently of the adapter.

It shares no code with `adapter.py`, so that it can check a pipeline: plain JSON, the whole file at
once, and other fields if the recording holds a value twice (titles from the start events, tokens from
the results' metadata).
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

_RESULTS: Final = {
    "NodeRunSucceededEvent": "succeeded",
    "NodeRunFailedEvent": "failed",
    "NodeRunExceptionEvent": "exception",
}


class Expected(NamedTuple):
    """One operation as a backend must show it."""

    parent: str | None
    """Id of the container's execution, else of the run; None for the run."""
    name: str
    status: str
    total_tokens: int


def _same(recorded_id: str) -> str:
    return recorded_id


def expected(path: Path, rename: Callable[[str], str] = _same) -> dict[str, dict[str, Expected]]:
    """Run id -> node execution id or run id -> what must arrive.

    For a run that is paused at the end: its ended nodes, but neither the run nor the waiting node.

    Args:
        rename: recorded id -> published id, if it was published with a salt.
    """
    with gzip.open(path) as file:
        lines = [json.loads(line) for line in file]
    by_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        by_run[line["run_id"]].append(line)
    return {rename(run_id): _operations(run_id, of_run, rename) for run_id, of_run in by_run.items()}


def _operations(
    run_id: str, lines: list[dict[str, Any]], rename: Callable[[str], str]
) -> dict[str, Expected]:
    end = lines[-1]
    over = end["status"] != "paused"
    starts = {line["data"]["id"]: line for line in lines if line.get("event") == "NodeRunStartedEvent"}
    results = {line["data"]["id"]: line for line in lines if line.get("event") in _RESULTS}
    found = {}
    for execution_id, start in starts.items():
        result = results.get(execution_id)
        if result is None and not over:
            continue
        found[rename(execution_id)] = Expected(
            parent=rename(start["parent_execution_id"] or run_id),
            name=start["data"]["node_title"],
            status=_RESULTS[result["event"]] if result else "stopped",
            total_tokens=result["data"]["node_run_result"]["metadata"].get("total_tokens", 0)
            if result
            else 0,
        )
    if over:
        found[rename(run_id)] = Expected(None, end["workflow"], end["status"], end["total_tokens"])
    return found
