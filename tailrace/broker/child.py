"""A child process that does not outlive its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

# Runs in the child, then becomes the real command. The kernel kills it when its parent ends. This is not a
# preexec_fn: that may deadlock after the fork of a process with threads, and Kafka clients have threads.
_TETHER = """
import ctypes, os, signal, sys
if ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0):
    sys.exit("prctl(PR_SET_PDEATHSIG) was refused")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended first")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """A started command, in its own session: Ctrl-C in a terminal reaches only the parent.

    On Linux the kernel kills it (SIGKILL) whenever the parent ends; on other systems only `end` and
    `kill` do. Processes that the command starts are ended by `kill` only.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, log: Path, keep: Sequence[int] = ()) -> None:
        """Runs `command` in `folder` and appends both outputs to `log`.

        The command inherits the descriptors in `keep`.

        Raises:
            OSError: the command cannot be started.
        """
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]
        self._started: Future[subprocess.Popen[bytes]] = Future()
        self._ended = threading.Event()
        self._status: int | None = None
        # Linux kills it when the *thread* that forked it ends, so this thread lives as long as the child
        arguments = (command, folder, log, keep)
        threading.Thread(target=self._live, args=arguments, name="tailrace-broker", daemon=True).start()
        self._process = self._started.result()
        self.pid = self._process.pid

    def _live(self, command: Sequence[str], folder: Path, log: Path, keep: Sequence[int]) -> None:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=keep,
                    start_new_session=True,
                    # Java decodes file names by the locale, and "C" is ASCII only
                    env={**os.environ, "LC_ALL": "C.UTF-8"},
                )
        except BaseException as error:
            self._started.set_exception(error)
            return
        self._started.set_result(process)
        self._status = process.wait()
        self._ended.set()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status (negative: the signal that ended it); None after `timeout` seconds."""
        self._ended.wait(timeout)
        return self._status

    def end(self, timeout: float) -> None:
        """SIGTERM, then SIGKILL if it still runs after `timeout` seconds. Returns when it has ended."""
        if not self._ended.is_set():
            self._process.terminate()
            if self.wait(timeout) is None:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the command and to what it started. Returns when it has ended."""
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._ended.wait()
