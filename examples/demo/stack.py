"""The demo's processes: a broker, a worker, the doubles of five backends, a connector.

They are started in this order and stopped in reverse.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from examples.demo.backends import BACKENDS, Ready, command, environment
from tailrace import kafka, topics
from tailrace.broker import Broker
from tailrace.settings import Settings, load

Say = Callable[[str], None]
NOT_OURS: Final = ("TAILRACE_", "ENTERPRISE_", "LANGFUSE_", "OPIK_", "WANDB_", "WF_")
"""Environment variables that start so are settings of sinks and are not passed on.

They could send the demo's events to a real backend.
"""


class Stack:
    """Everything that the demo runs, with data and logs in one folder, which is emptied first."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self._say = folder, say
        self.spans = folder / "spans.jsonl"
        self.ready: dict[str, Ready] = {}
        """Name of the sink -> what its backend's double says of itself."""
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._broker: Broker | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._take_folder()
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            (self.folder / "logs").mkdir(parents=True)
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _take_folder(self) -> None:
        """Locks and empties the folder.

        The lock is a file next to it, released when this process ends. Raises RuntimeError if another
        process holds it.
        """
        path = self.folder.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RuntimeError("another demo runs in this folder; choose another one with --folder") from None
        self._lock = lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._say("starting Apache Kafka (the first time it downloads 45 MB)")
        self._broker = Broker(self.folder / "kafka", log=self._say).start()
        self.settings: Settings = load(
            {"kafka": {"bootstrap_servers": self._broker.bootstrap_servers}}, env={}
        )
        admin, _ = kafka.wait_for_broker(self.settings.kafka, 30)
        topics.create(admin, self.settings.topics)
        self.admin = admin
        self._say("starting a stream worker, five backends and a connector")
        self._child("process", "-P", "-m", "tailrace", "process", "-b", self._broker.bootstrap_servers)
        self._start_backends()
        self._child(
            "connect",
            "-P",
            "-m",
            "tailrace",
            "connect",
            *BACKENDS,
            "-b",
            self._broker.bootstrap_servers,
            env=environment(self.ready),
        )

    def _start_backends(self) -> None:
        """Starts the doubles at the same time, and waits until each says where it listens."""
        starting = {}
        for name in BACKENDS:
            starting[name] = self._child(name, "-P", *command(name, self.spans), pipe=True)
        for name, process in starting.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(
                    f"the double of {BACKENDS[name].title} did not start, see {self.log(name)}"
                )
            self.ready[name] = json.loads(line)

    def _child(
        self, name: str, *arguments: str, pipe: bool = False, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a Python process in its own session.

        So Ctrl-C reaches only the demo, which stops the processes in order.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(NOT_OURS)}
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else log,
                stderr=log,
                start_new_session=True,
                env=inherited | dict(env or {}),
            )
        self._children.append((name, process))
        return process

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    @property
    def bootstrap_servers(self) -> str:
        return self.settings.kafka.bootstrap_servers

    def check(self) -> None:
        """Raises RuntimeError if a process has ended."""
        for name, process in self._children:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}, see {self.log(name)}")

    def stop(self) -> None:
        for name, process in reversed(self._children):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    self._say(f"{name} did not stop within 30 s, killing it")
                    process.kill()
                    process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._children.clear()
        if self._broker is not None:
            self._broker.stop()
            self._broker = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
