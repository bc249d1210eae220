"""Child processes that tests kill and restart, waiting, and the lag of a consumer group."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from tests.harness.enriched import read_from

T = TypeVar("T")
TAIL_LINES: Final = 40


class Child:
    """A process in its own session, so that it and its children can be ended together.

    As a context manager it ends what is left.

    Args:
        command: the command line.
        env: added to this process's environment.
        log_path: gets the output, appended over restarts.
        cwd: working directory.
    """

    def __init__(
        self,
        args: Sequence[str],
        env: Mapping[str, str],
        log_path: str | Path,
        *,
        cwd: str | Path | None = None,
    ) -> None:
        self.args, self.env, self.log_path, self.cwd = list(args), dict(env), Path(log_path), cwd
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    def start(self) -> Self:
        """Raises AssertionError if it is running, OSError if it cannot be started."""
        assert not self.running, f"{self} runs already"
        with self.log_path.open("ab") as log:
            self._log_from = log.tell()
            self._process = subprocess.Popen(
                self.args,
                env={**os.environ, **self.env},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def sigkill(self, *, family: bool = True) -> None:
        """kill -9 (to its children too unless `family` is False), and waits until it is gone.

        Raises AssertionError if it had ended by itself: then the kill of the test hit nothing.
        """
        rc = self.process.poll()
        assert rc is None, f"{self} had ended with {rc} before it was killed\n{self.tail()}"
        self._signal(signal.SIGKILL, family)
        self.process.wait(60)

    def sigterm(self, timeout: float) -> int:
        """SIGTERM to the process alone. Returns its exit code.

        Raises AssertionError if it takes longer than `timeout` seconds.
        """
        self._signal(signal.SIGTERM, family=False)
        return self.wait(timeout)

    def signal(self, number: int) -> None:
        """Any other signal, to the process alone: SIGSTOP, SIGCONT, …"""
        self._signal(number, family=False)

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises AssertionError after `timeout` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} has not ended in {timeout:g} s\n{self.tail()}") from None

    def restart(self) -> Self:
        """kill -9 if it runs, then start."""
        if self.running:
            self.sigkill()
        return self.start()

    def close(self) -> None:
        """Ends the process and its children at once, in any state."""
        if self._process is not None:
            self._signal(signal.SIGKILL, family=True)
            self._process.wait(60)

    def output(self) -> str:
        """What it has written since its last start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def json_line(self, timeout: float = 30.0) -> dict[str, Any]:
        """The first JSON object since its last start. `--json` commands print one when they are ready."""
        ready = f"{self} says that it is ready"
        found = wait_until(lambda: _first_object(self.output()), timeout, ready, alive=(self,))
        assert found is not None
        return found

    def tail(self) -> str:
        return log_tail(self.log_path)

    def _signal(self, number: int, family: bool) -> None:
        try:
            if family:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        except ProcessLookupError:
            pass

    def __str__(self) -> str:
        return f"{' '.join(self.args[:6])}{' …' if len(self.args) > 6 else ''}"

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _first_object(text: str) -> dict[str, Any] | None:
    for line in text.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            try:
                return msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue
    return None


def log_tail(path: str | Path, lines: int = TAIL_LINES) -> str:
    """The end of a log, for the message of an assertion."""
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as e:
        text = f"({e.strerror})"
    return f"--- {path}\n" + "\n".join(text.splitlines()[-lines:])


def wait_until(
    predicate: Callable[[], T],
    deadline: float,
    what: str,
    *,
    alive: Iterable[Child] = (),
    logs: Iterable[str | Path] = (),
    every: float = 0.05,
) -> T:
    """What `predicate` returns as soon as that is true.

    Raises AssertionError with `what` and the ends of the logs: after the deadline, or at once when a
    process has ended that should run.

    Args:
        predicate: what is asked.
        deadline: seconds.
        what: what is waited for, in words.
        logs: logs to show.
        alive: processes that must keep running; their logs are shown too.
        every: seconds between two calls.
    """
    alive, pause = tuple(alive), threading.Event()
    until = time.monotonic() + deadline
    while True:
        found = predicate()
        if found:
            return found
        ended = [c for c in alive if not c.running]
        if ended or time.monotonic() >= until:
            reason = f"{ended[0]} ended with {ended[0].process.poll()}" if ended else f"waited {deadline:g} s"
            tails = [c.tail() for c in alive] + [log_tail(p) for p in logs]
            raise AssertionError("\n".join([f"not so: {what} ({reason}; last: {found!r})", *tails]))
        pause.wait(min(every, max(0.0, until - time.monotonic())))


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """The lag of a group on one partition.

    The end marker of a transaction has an offset too. The ends are those of all records.
    """

    committed: int | None
    """Next offset the group will read; None: it has committed none."""
    begin: int
    end: int

    @property
    def records(self) -> int:
        """Offsets not yet passed; all of them if nothing was committed."""
        return max(0, self.end - max(self.begin, self.committed or 0))


def group_lag(bootstrap: str, group: str, topic: str, timeout: float = 10.0) -> dict[int, Lag]:
    """Partition -> lag, without joining the group. Raises KafkaException."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        found = consumer.list_topics(topic, timeout=timeout).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        committed = consumer.committed([TopicPartition(topic, p) for p in found.partitions], timeout=timeout)
        lags = {}
        for tp in committed:
            if tp.error is not None:
                raise KafkaException(tp.error)
            begin, end = consumer.get_watermark_offsets(TopicPartition(topic, tp.partition), timeout=timeout)
            lags[tp.partition] = Lag(
                committed=None if tp.offset == OFFSET_INVALID else tp.offset, begin=begin, end=end
            )
        return lags
    finally:
        consumer.close()


def total_lag(bootstrap: str, group: str, topic: str) -> int:
    return sum(lag.records for lag in group_lag(bootstrap, group, topic).values())


def require_lag(bootstrap: str, group: str, topic: str, at_least: int = 1) -> int:
    """The group's lag before a kill.

    Raises AssertionError if it is too small: the kill of an idle process shows nothing.
    """
    lag = total_lag(bootstrap, group, topic)
    assert lag >= at_least, f"{group} has a lag of {lag} on {topic}, the kill needs {at_least}"
    return lag


def unread(bootstrap: str, group: str, topic: str, timeout: float = 30.0) -> int:
    """Records that a read-committed group has yet to read, counted by reading them.

    The lag is not exact: end markers keep it at 1 a partition for a group that has read everything.
    """
    waiting = [
        TopicPartition(topic, p, max(lag.begin, lag.committed or 0))
        for p, lag in group_lag(bootstrap, group, topic).items()
        if lag.records
    ]
    return len(read_from(bootstrap, waiting, committed=True, timeout=timeout)[0]) if waiting else 0


def wait_until_read(
    bootstrap: str, group: str, topic: str, deadline: float, *, alive: Iterable[Child] = ()
) -> None:
    """Waits until the group has committed all records of the topic.

    Raises AssertionError after `deadline` seconds.
    """

    def done() -> bool:
        lags = group_lag(bootstrap, group, topic)
        return sum(lag.records for lag in lags.values()) <= 2 * len(lags) and not unread(
            bootstrap, group, topic
        )

    wait_until(done, deadline, f"{group} has read all of {topic}", alive=alive, every=0.2)
