"""Runs several sinks in one process, each in its own thread.

A slow sink does not slow the others, and a failed one does not stop them.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from connectors.consumer.sink_supervisor import SinkSupervisor
from connectors.consumer.status import Status
from tailrace.errors import TailraceError

log: Final = logging.getLogger("tailrace.connect")
REPORT_SECONDS: Final = 10.0

Report = Callable[[Sequence[Status], bool], None]
"""report(statuses, final): called every `REPORT_SECONDS`, and once at the end with final=True."""


class Fleet:
    """Runs a process's sinks until all have ended."""

    def __init__(
        self, sinks: Sequence[SinkSupervisor], report: Report, every: float = REPORT_SECONDS
    ) -> None:
        self._sinks, self._report, self._every = sinks, report, every
        self._ended = threading.Event()

    def run(self) -> int:
        """Blocks until the last sink has ended.

        In the main thread it handles SIGTERM and SIGINT. The first signal drains the sinks. The second ends
        the process at once with exit status 128 + its number; what is in flight is not committed.

        Returns:
            0, or 1 if a sink failed.
        """
        threads = [
            threading.Thread(target=self._one, args=(s,), name=f"sink-{s.name}", daemon=True)
            for s in self._sinks
        ]
        with self._signals():
            for thread in threads:
                thread.start()
            reported_at = time.monotonic()
            while any(t.is_alive() for t in threads):
                self._ended.wait(0.2)
                self._ended.clear()
                if time.monotonic() - reported_at >= self._every:
                    reported_at = time.monotonic()
                    self._report([s.status() for s in self._sinks], False)
            for thread in threads:
                thread.join()
        statuses = [s.status() for s in self._sinks]
        self._report(statuses, True)
        return 1 if any(s.state == "failed" for s in statuses) else 0

    def stop(self) -> None:
        """Asks all sinks to drain and end. Does not wait."""
        for sink in self._sinks:
            sink.stop()

    def _one(self, sink: SinkSupervisor) -> None:
        try:
            sink.run()
        except TailraceError as e:
            log.error("%s has stopped: %s", sink.name, e)
        except Exception:
            log.exception("%s has stopped", sink.name)
        finally:
            self._ended.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handles SIGTERM and SIGINT within the block; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        draining = False

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal draining
            if draining:
                os._exit(128 + number)
            draining = True
            log.info("signal %d: draining; a second signal ends the process at once", number)
            self.stop()

        before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
