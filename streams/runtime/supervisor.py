"""Keeps worker processes running: restarts a worker that ended, with back-off, until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from streams.exit_codes import FINAL
from streams.runtime.worker import Job

log: Final = logging.getLogger("streams.runtime.supervisor")

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 30.0
HEALTHY_SECONDS: Final = 60.0
"""A worker that ran this long is restarted without delay when it ends."""


def delay(failures: int) -> float:
    """Seconds to wait before the next start, after `failures` quick ends in a row: 0.1, 0.2, 0.4 … 30."""
    return float(min(LAST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 20))) if failures > 0 else 0.0


def start(job: Job) -> subprocess.Popen[bytes]:
    """Starts one worker.

    -P: a `streams/` in the current folder must not shadow the package. The worker gets its own session,
    so that only the supervisor handles Ctrl-C.
    """
    command = [sys.executable, "-P", "-m", "streams.runtime.worker", str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    process.stdin.close()
    return process


class Supervisor:
    """Runs one process per job until `stop`. `spawn`, `clock` and `wait` are parameters for tests."""

    def __init__(
        self,
        jobs: list[Job],
        spawn: Callable[[Job], subprocess.Popen[bytes]] = start,
        clock: Callable[[], float] = time.monotonic,
        stop_seconds: float = 20.0,
    ) -> None:
        self._jobs, self._spawn, self._clock, self._stop_seconds = jobs, spawn, clock, stop_seconds
        self._stop = threading.Event()
        self._woken = threading.Event()
        self.pids: dict[int, int] = {}
        """Worker number -> process id, of running workers."""

    def stop(self) -> None:
        self._stop.set()
        self._woken.set()

    def wake(self) -> None:
        """Called when a child has ended (SIGCHLD)."""
        self._woken.set()

    def run(self) -> int:
        """Returns the exit code: 0 after `stop`; a worker's own code if a restart would not help."""
        running: dict[int, subprocess.Popen[bytes]] = {}
        began: dict[int, float] = {}
        failures = dict.fromkeys(range(len(self._jobs)), 0)
        due = dict.fromkeys(range(len(self._jobs)), self._clock())
        code = 0
        while not self._stop.is_set():
            now = self._clock()
            for n in [n for n, at in due.items() if at <= now]:
                del due[n]
                running[n], began[n] = self._spawn(self._jobs[n]), now
                self.pids[n] = running[n].pid
                log.info("worker %d started, pid %d", n, running[n].pid)
            self._woken.clear()
            for n, process in list(running.items()):
                status = process.poll()
                if status is None:
                    continue
                del running[n], self.pids[n]
                if status in FINAL:
                    code = status
                    self.stop()
                    continue
                failures[n] = 0 if now - began[n] >= HEALTHY_SECONDS else failures[n] + 1
                due[n] = self._clock() + delay(failures[n])
                log.warning(
                    "worker %d ended (%s), restarting it in %.1f s",
                    n,
                    describe(status),
                    max(0.0, due[n] - self._clock()),
                )
            if not self._stop.is_set():
                self._woken.wait(max(0.0, min((at - self._clock() for at in due.values()), default=1.0)))
        self._end(list(running.values()))
        return code

    def _end(self, running: list[subprocess.Popen[bytes]]) -> None:
        for process in running:
            process.terminate()
        deadline = self._clock() + self._stop_seconds
        for process in running:
            try:
                process.wait(max(0.1, deadline - self._clock()))
            except subprocess.TimeoutExpired:
                log.error(
                    "worker with pid %d did not stop within %.0f s, killing it",
                    process.pid,
                    self._stop_seconds,
                )
                process.kill()
                process.wait()


def describe(status: int) -> str:
    """An exit status as text."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def supervise(jobs: list[Job]) -> int:
    """Runs a supervisor in the main thread. SIGTERM and SIGINT stop it; a second signal kills the workers."""
    supervisor = Supervisor(jobs)

    def on_signal(number: int, frame: object) -> None:
        if supervisor._stop.is_set():
            for pid in supervisor.pids.values():
                os.kill(pid, signal.SIGKILL)
        supervisor.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGCHLD, lambda number, frame: supervisor.wake())
    return supervisor.run()
