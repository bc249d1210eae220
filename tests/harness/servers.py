"""Web servers as child processes."""

from __future__ import annotations

import json
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from tailrace.broker.folder import free_port
from tailrace.settings import Settings
from tests.harness.processes import Child, wait_until
from tests.tailrace.scripts import environment

PATIENCE: Final = 120.0
"""Seconds; a machine that runs other tests is slow."""


class Server:
    """A web server as a child process.

    Args:
        folder: its working directory, and where its log is.
        settings: where its application publishes.
        command: its command line after the folder of this Python's commands; `{port}` is the port.
    """

    def __init__(self, folder: Path, settings: Settings, *command: str) -> None:
        self.port = free_port()
        program, *arguments = [part.format(port=self.port) for part in command]
        program = str(Path(sys.executable).with_name(program))
        self.child = Child([program, *arguments], environment(settings), folder / "server.log", cwd=folder)

    def __enter__(self) -> Server:
        self.child.start()
        wait_until(self._answers, PATIENCE, "the server answers", alive=(self.child,))
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def post(self, path: str, data: bytes = b"") -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, data=data, timeout=PATIENCE) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def stop(self) -> str:
        """Ends it as a deployment does. Returns what it has logged."""
        ended = self.child.sigterm(PATIENCE)
        assert ended in (0, -signal.SIGTERM), self.child.tail()  # uvicorn shuts down, then takes the signal
        return self.child.output()
