"""Several sinks in one process, each in a thread of its own: a slow one slows no other, and one that fails
stops no other."""

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
"""report(statuses, final): called every REPORT_SECONDS and once at the end."""


class Fleet:
    """Runs all sinks until each has ended."""

    def __init__(
        self, sinks: Sequence[SinkSupervisor], report: Report, every: float = REPORT_SECONDS
    ) -> None:
        self._sinks, self._report, self._every = sinks, report, every
        self._ended = threading.Event()

    def run(self) -> int:
        """Blocks until the last sink has ended; in the main thread, where SIGTERM and SIGINT are handled.

        The first signal drains, the second ends the process at once with 128 + its number, leaving what is
        in flight uncommitted. Returns 0, or 1 if a sink failed."""
        threads = [
            threading.Thread(target=self._one, args=(s,), name=f"sink-{s.name}", daemon=True)
            for s in self._sinks
        ]
        with self._signals():
            for thread in threads:
                thread.start()
            said = time.monotonic()
            while any(t.is_alive() for t in threads):
                self._ended.wait(0.2)
                self._ended.clear()
                if time.monotonic() - said >= self._every:
                    said = time.monotonic()
                    self._report([s.status() for s in self._sinks], False)
            for thread in threads:
                thread.join()
        statuses = [s.status() for s in self._sinks]
        self._report(statuses, True)
        return 1 if any(s.state == "failed" for s in statuses) else 0

    def stop(self) -> None:
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
        """SIGTERM and SIGINT drain; outside the main thread nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked = False

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal asked
            if asked:
                os._exit(128 + number)
            asked = True
            log.info("signal %d: draining; once more ends at once", number)
            self.stop()

        before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
