"""What happens to publishers when their process forks or ends."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from typing import Final, Protocol

from tailrace.delivery_reports import FlushReport

log: Final = logging.getLogger("tailrace.publisher")


class Delivery(Protocol):
    """What delivers a publisher's events in one process."""

    pid: int
    ended: threading.Event
    exit_seconds: float

    def leave(self, timeout: float) -> FlushReport: ...
    def abandon(self) -> None: ...


_running: Final[weakref.WeakSet[Delivery]] = weakref.WeakSet()


def register(delivery: Delivery) -> None:
    """From now on it is flushed when the process ends, and abandoned in forked children."""
    _running.add(delivery)


def _flush() -> None:
    """Waits for what publishers that were not closed still have, then logs how many events are left."""
    began = time.monotonic()
    for delivery in list(_running):
        if delivery.pid != os.getpid() or delivery.ended.is_set():
            continue
        _running.discard(delivery)  # a child that was spawned comes here twice
        left = began + delivery.exit_seconds - time.monotonic()
        if undelivered := delivery.leave(max(0.0, left)).undelivered:
            log.error(
                "%d events not delivered: close() the publisher or use it as a context manager",
                len(undelivered),
            )


def _end_of_child() -> None:
    """multiprocessing ends its children without atexit, but it ends their threads."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _flush()


def _abandon() -> None:
    for delivery in list(_running):
        delivery.abandon()
    _running.clear()


os.register_at_fork(after_in_child=_abandon)
atexit.register(_flush)
if register_atexit := getattr(threading, "_register_atexit", None):  # concurrent.futures relies on it too
    register_atexit(_end_of_child)
