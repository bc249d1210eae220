"""Ends a worker that hangs, from its own thread.

The supervisor starts another worker, which resumes at the committed position.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from confluent_kafka import KafkaException

from streams.exit_codes import FAILED
from streams.observe.ends import LogEnds, Tails
from streams.observe.observed import Observed
from streams.observe.stuck import Stuck, Verdict

log: Final = logging.getLogger("streams.observe.watchdog")

LAST_RESORT_SECONDS: Final = 10
"""Seconds that the process has to write its stacks; then the kernel ends it (SIGALRM)."""
PAUSED_SECONDS: Final = 30.0
"""If a round takes longer than its requests may take, the whole process was paused."""


def interval(limit: float) -> float:
    """Seconds between two rounds."""
    return min(5.0, limit / 4) if limit else 5.0


class Watchdog:
    """The watchdog thread.

    Args:
        limit: seconds without progress after which the worker is ended. 0: only measure, for the
            metrics.
        end: ends the process; does not return.
        loop: the event loop, for the stacks of its tasks.
        alarm: like `signal.alarm`.
    """

    def __init__(
        self,
        observed: Observed,
        ends: LogEnds,
        limit: float,
        end: Callable[[int, str], NoReturn],
        loop: asyncio.AbstractEventLoop | None = None,
        alarm: Callable[[int], object] = signal.alarm,
    ) -> None:
        self._observed, self._ends, self._tails = observed, ends, Tails(ends.has_record)
        self._stuck = Stuck(limit) if limit else None
        self._interval, self._end, self._loop, self._alarm = interval(limit), end, loop, alarm
        self._before = observed.clock()
        self._reached: dict[int, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._observed.watching = self._thread.is_alive

    def stop(self) -> None:
        """Stops the thread and waits until it has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._observed.stopping and not self._stop.wait(self._interval):
            try:
                verdict = self.round()
            except Exception:
                log.exception("a round of the watchdog")
                continue
            if verdict is not None:
                self.fire(verdict)

    def round(self) -> Verdict | None:
        """Checks everything once. Blocks while Kafka is queried."""
        seen, now = self._observed, self._observed.clock()
        if self._stuck is not None and now - self._before > self._interval + PAUSED_SECONDS:
            self._stuck.paused(now)
        opening = seen.opening
        try:
            verdict = self._of_loop(bool(opening), now)
            if verdict is None:
                owned = seen.owned()
                self._ask(owned)
                now = seen.clock()
                verdict = self._of_loop(bool(opening), now) or self._of_partitions(owned, opening, now)
            return verdict
        finally:
            self._before = seen.clock()

    def _ask(self, owned: list[int]) -> None:
        """Ends and lags of the owned partitions; unknown ones are left out."""
        seen = self._observed
        # read before the ends, so never ahead of them
        positions = {n: p for n in owned if (p := seen.position(n)) is not None}
        ends = self._ends.of(positions)
        reached: dict[int, int] = {}
        for n, found in ends.items():
            with contextlib.suppress(KafkaException, TimeoutError):
                reached[n] = self._tails.end(n, positions[n], found.stable)
        seen.ends = ends
        seen.lags = {n: max(0, end - max(0, positions[n])) for n, end in reached.items()}
        self._reached = {n: (positions[n], end) for n, end in reached.items()}

    def _of_loop(self, busy: bool, now: float) -> Verdict | None:
        ticked = self._observed.ticked
        return None if self._stuck is None or ticked is None else self._stuck.loop(ticked, busy, now)

    def _of_partitions(self, owned: list[int], opening: dict[int, float], now: float) -> Verdict | None:
        if self._stuck is None:
            return None
        self._stuck.keep({*owned, *opening})
        verdicts: list[Verdict | None] = []
        for n in owned:
            if n in self._reached and n not in self._observed.waiting:
                verdicts.append(self._stuck.observe(n, *self._reached[n], now))
            else:
                self._stuck.unknown(n, now)
        answered = not opening or self._answers(opening)
        for n, began in opening.items():
            if answered:
                verdicts.append(self._stuck.taking_over(n, began, now))
            else:
                self._stuck.unknown(n, now)
        return next((v for v in verdicts if v is not None), None)

    def _answers(self, partitions: dict[int, float]) -> bool:
        """Whether Kafka answers for partitions that are being taken over."""
        return bool(self._ends.of(partitions))

    def fire(self, verdict: Verdict) -> None:
        """Logs all stacks and ends the process; ends it without stacks if logging hangs too."""
        if self._observed.stopping:
            return  # stopping has its own deadline
        self._alarm(LAST_RESORT_SECONDS)
        self._observed.failed = str(verdict)
        log.critical("%s: ending this worker; the stacks of all threads and tasks follow", verdict)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        log.critical("tasks of the event loop:\n%s", "\n".join(f"  {place(task)}" for task in self._tasks()))
        self._end(FAILED, f"{verdict}; ended by the watchdog (streams.watchdog_seconds)")

    def _tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks of the loop, as far as another thread can read them: they may change meanwhile."""
        for _ in range(3):
            with contextlib.suppress(RuntimeError):
                return (
                    []
                    if self._loop is None
                    else sorted(asyncio.all_tasks(self._loop), key=lambda t: t.get_name())
                )
        return []


def place(task: asyncio.Task[Any]) -> str:
    """Where a task waits: its frames, the innermost last."""
    frames: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = next(
            (f for a in ("cr_frame", "gi_frame", "ag_frame") if (f := getattr(inner, a, None))), None
        )
        if frame is not None:
            frames.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        inner = next(
            (w for a in ("cr_await", "gi_yieldfrom", "ag_await") if (w := getattr(inner, a, None))), None
        )
    return f"{task.get_name()[:80]}: {' > '.join(frames) or 'no frame'}"
