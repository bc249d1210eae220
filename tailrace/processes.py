"""What every tailrace process sets up at its start: logging, the garbage collector, its parent."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import logging
import os
import resource
import signal
import sys
import time
from typing import Final

MOST_DESCRIPTORS: Final = 65_536
FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_NOISY: Final = ("aiokafka", "faust", "mode", "asyncio", "_preload", "opentelemetry")


class _OncePerPeriod(logging.Filter):
    """Passes the same text of a library at most once in 10 s.

    While a broker is down, aiokafka logs about 20 lines a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if record.created - self._last.get(text, 0.0) < 10:
            return False
        self._last[text] = record.created
        return True


def set_up_logging(level: str = "INFO") -> None:
    """Logs to stderr, in UTC. Libraries log from WARNING on, without frequent repetitions."""
    formatter = logging.Formatter(FORMAT)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    once = _OncePerPeriod()
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    handler.addFilter(lambda record: once.filter(record) if record.name.split(".")[0] in _NOISY else True)


def collect_seldom() -> None:
    """Runs the garbage collector rarely, and never over the objects that exist now.

    For processes on the record path, which creates no reference cycles. One collection over a state of
    a million objects takes seconds.
    """
    gc.set_threshold(50_000, 20, 50)
    gc.freeze()


def die_with_parent(parent: int) -> None:
    """Linux: sends SIGTERM to this process when the thread that started it ends.

    If that thread has ended already, the signal comes at once. Call this first. On other systems it
    does nothing.

    Args:
        parent: the parent's process id, passed by the parent itself. `os.getppid()` may be too late:
            the parent may be gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def raise_descriptor_limit() -> tuple[int, int]:
    """Raises the soft limit of open files to the hard one, at most to `MOST_DESCRIPTORS`.

    Returns:
        The soft limit before and now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = MOST_DESCRIPTORS if hard == unlimited else min(hard, MOST_DESCRIPTORS)
    if soft != unlimited and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems refuse what they say is allowed
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def descriptors() -> tuple[int, int]:
    """Open files of this process and their soft limit; zeros if the system does not say."""
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError as e:
        if e.errno != errno.EMFILE:
            return 0, 0
        used = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # there was none left to look with
    return used, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
