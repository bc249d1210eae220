"""`tailrace process` with one worker that hangs once.

    python -m tests.streams.observe.hanging apply|commit FOLDER

In the worker process, the named function removes FOLDER/hang and blocks forever at the first call that
finds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from streams.processing.apply import EventProcessor
from streams.runtime import supervisor, worker
from streams.runtime.partition import Partition
from streams.runtime.worker import Job
from tailrace.processes import set_up_logging
from tailrace.settings import load


def spawn(job: Job) -> subprocess.Popen[bytes]:
    """Like the supervisor's `start`, with this module as the worker."""
    command = [sys.executable, "-m", "tests.streams.observe.hanging", str(os.getpid()), *sys.argv[1:]]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    process.stdin.close()
    return process


def hang_in(cls: Any, name: str, folder: Path) -> None:
    whole = getattr(cls, name)

    def stuck(*args: Any) -> Any:
        try:
            (folder / "hang").unlink()
        except FileNotFoundError:
            return whole(*args)
        return threading.Event().wait()

    setattr(cls, name, stuck)


def main() -> None:
    if sys.argv[1].isdigit():
        where, folder = sys.argv[2], Path(sys.argv[3])
        hang_in({"apply": EventProcessor, "commit": Partition}[where], where, folder)
        worker.main()
    set_up_logging()
    running = supervisor.Supervisor([Job(load(), "hanging-0")], spawn)
    sys.exit(running.run())


if __name__ == "__main__":
    main()
