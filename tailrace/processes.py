"""What every process of tailrace does when it starts: its log's form, and ending with the process that
started it."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import time
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_NOISY: Final = ("aiokafka", "faust", "mode", "asyncio", "_preload", "opentelemetry")


class _OncePerPeriod(logging.Filter):
    """Lets the same text of a noisy library through once in 10 s: aiokafka logs some 20 lines a second while
    a broker is down."""

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
    """Logs to stderr, in UTC. Libraries below us only from WARNING on, and not the same line again and
    again."""
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
    """For processes on the record path, which makes no cycles: the garbage collector looks seldom, and never
    at what is there by now. Walking a state of a million objects takes seconds."""
    gc.set_threshold(50_000, 20, 50)
    gc.freeze()


def die_with_parent(parent: int) -> None:
    """Linux: SIGTERM to this process when the thread that started it ends, or at once if it has ended
    already. Elsewhere nothing.

    Call it first thing. parent: the process id of whoever started this one, as that one knows it: asked here,
    it may be too late."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
