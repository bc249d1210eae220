"""Weave's own server in memory, of the last release of its package that has it."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.backends.cache import WEAVE, built
from tests.backends.collector import PATIENCE, free_ports, listens
from tests.harness.processes import Child, wait_until
from tests.vendor.venvs import QUIET, ROOT

ENTITY: Final = "acme"
PROJECT: Final = "support"
KEY: Final = "0" * 40


class WeaveServer:
    """One server. What it holds is lost when it ends."""

    def __init__(self, folder: Path) -> None:
        [self._port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        python = built(WEAVE).parent / "bin" / "python"
        command = [str(python), "-m", "tests.backends.weave_application", str(self._port), KEY]
        self.child = Child(command, QUIET, folder / "weave.log", cwd=ROOT)

    def __enter__(self) -> Self:
        self.child.start()
        wait_until(lambda: listens(self._port), 2 * PATIENCE, "Weave's server listens", alive=(self.child,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.close()

    def settings(self) -> Mapping[str, str]:
        """Of a sink that sends to it."""
        return {"trace_url": self.url, "api_key": KEY, "entity": ENTITY, "project": PROJECT}

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The body of the answer. Raises HTTPError."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode(),
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            found: bytes = answer.read()
            return found

    def calls(self) -> dict[str, dict[str, Any]]:
        """Id -> call. Raises AssertionError if it has two of an id."""
        query = {"project_id": f"{ENTITY}/{PROJECT}"}
        rows = [json.loads(line) for line in self.post("/calls/stream_query", query).splitlines()]
        found = {row["id"]: row for row in rows}
        assert len(found) == len(rows)
        return found

    def feedback_rows(self) -> list[dict[str, Any]]:
        """Without the times of their arrival."""
        query = {"project_id": f"{ENTITY}/{PROJECT}"}
        rows: list[dict[str, Any]] = json.loads(self.post("/feedback/query", query))["result"]
        return [{name: value for name, value in row.items() if name != "created_at"} for row in rows]

    def feedback(self) -> dict[str, dict[str, Any]]:
        """Id -> feedback. Raises AssertionError if it has two of an id."""
        rows = self.feedback_rows()
        found = {row["id"]: row for row in rows}
        assert len(found) == len(rows)
        return found
