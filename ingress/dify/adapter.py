"""The format `dify`: Dify's own trace records as trace events.

A line waits only for what it lacks: a node for its run, an operation beside a message for the message, a
nested run for the one that called it. It waits in a bounded window; what falls out of it becomes an event
with what is known by then, and is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ingress.dify.building import MADE, corrected, event_of, message_of
from ingress.dify.facts import CONTAINERS, CONVERSATION, MESSAGE, Key, Memory
from ingress.dify.joining import Joined, Wait, join
from ingress.dify.lines import read
from ingress.dify.operation import Joins, Operation
from ingress.dify.window import Waiting, Window
from ingress.dify.zones import Zones
from tailrace.errors import InvalidEvent
from tailrace.formats import Converted, Note, Options
from tailrace.records import Kind, TraceEvent

_TRIES: Final = 8
PUSHED_OUT = Note("missing", "window", "too many lines waited; it was not waited for any longer")


class DifyLines:
    """Turns lines of Dify into events. Lines of several turns may be mixed, in any order.

    Args:
        zones: the zones of times without one.
        window: where lines wait.
        memory: what lines have told.
        clock: the current time, microseconds UTC, for events without any time.
    """

    def __init__(
        self,
        zones: Zones | None = None,
        window: Window | None = None,
        memory: Memory | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._zones = zones or Zones()
        self.window = Window() if window is None else window
        self.memory = Memory() if memory is None else memory
        self._clock = clock
        self._number = 0

    def line(self, where: str, raw: bytes) -> Iterable[Converted]:
        """Takes a line; returns the events that can be made now."""
        self._number += 1
        try:
            operation = read(raw, self._zones)
        except InvalidEvent as e:
            return [Converted(where, None, e)]
        joins = operation.joins(self._number)
        told = self.memory.learn(joins)
        found: list[Converted] = []
        answer = join(joins, self.memory, last=False)
        if isinstance(answer, Wait):
            self.window.add(Waiting(where, bytes(raw), joins), answer.keys)
        else:
            found += self._converted(where, operation, joins, answer)
        found += self._retry(told)
        for line in self.window.excess():
            found += self._release(line, (PUSHED_OUT,))
        return found

    def end(self) -> Iterable[Converted]:
        """Returns the events of all lines that wait."""
        for line in self.window.all():
            yield from self._release(line)

    def _retry(self, told: list[Key]) -> Iterator[Converted]:
        for line in self.window.of(told):
            answer = join(line.joins, self.memory, last=False)
            if isinstance(answer, Wait):
                self.window.move(line.joins.number, self._tried(line.joins, answer.keys))
            else:
                self.window.remove(line.joins.number)
                yield from self._converted(line.where, read(line.raw, self._zones), line.joins, answer)

    def _tried(self, joins: Joins, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        """What a line waits for after an execution of its container's node was read that is not its own, or a
        turn of its conversation that is not.

        Nothing after `_TRIES` of them: it is looked at again when it falls out of the window or at the end.
        Else the executions of a container and the lines in them would all be compared with each other.
        """
        if any(about in (CONTAINERS, CONVERSATION) for about, _ in keys):
            joins.tries += 1
        return keys if joins.tries <= _TRIES else ()

    def _release(self, line: Waiting, notes: tuple[Note, ...] = ()) -> list[Converted]:
        self.window.remove(line.joins.number)
        answer = join(line.joins, self.memory, last=True)
        assert isinstance(answer, Joined)
        return self._converted(line.where, read(line.raw, self._zones), line.joins, answer, notes)

    def _converted(
        self, where: str, operation: Operation, joins: Joins, joined: Joined, more: tuple[Note, ...] = ()
    ) -> list[Converted]:
        notes = list(more)
        try:
            event = event_of(operation, joined, self._clock(), notes)
        except InvalidEvent as e:
            return [Converted(where, None, e)]
        found: list[Converted] = []
        if event.kind == Kind.WORKFLOW_RUN and event.message_id is not None:
            found += self._message(where, event)
        elif event.kind == Kind.MESSAGE:
            event = self._instead(event, joins, notes)
        return [*found, Converted(where, event, notes=tuple(notes))]

    def _message(self, where: str, run: TraceEvent) -> list[Converted]:
        """The message of a chatflow's run, unless Dify sent one."""
        if run.parent_run_id is not None:
            return []
        facts = self.memory.find(MESSAGE, run.message_id, run.tenant_id, run.app_id)
        if facts is not None and facts.real:
            return []
        if facts is not None:
            facts.made = True
        return [Converted(where, message_of(run), notes=(Note("filled", "message", MADE),))]

    def _instead(self, event: TraceEvent, joins: Joins, notes: list[Note]) -> TraceEvent:
        """Dify's own message, which replaces one that was made before."""
        facts = self.memory.find(MESSAGE, event.source_id, event.tenant_id, event.app_id)
        if facts is None or not facts.made:
            return event
        notes.append(Note("changed", "revision", "replaces the message that was made from its run"))
        return corrected(event)


def adapter(options: Options) -> DifyLines:
    """The factory of the format `dify`.

    Args:
        options: `timezone` as `Zones` takes it.

    Raises:
        ConfigError: a time zone is not known.
    """
    return DifyLines(Zones(options.timezone))
