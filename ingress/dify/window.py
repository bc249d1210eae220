"""Lines that wait for others to tell what they lack. Bounded in lines and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ingress.dify.facts import Key
from ingress.dify.operation import Joins

LINES: Final = 20_000
"""Lines that wait at most."""
BYTES: Final = 256 << 20
"""Bytes that they take, about."""
_EACH: Final = 2048
"""Bytes that a line takes besides its text, about."""


class Waiting(NamedTuple):
    """A line that waits."""

    where: str
    raw: bytes
    joins: Joins

    @property
    def size(self) -> int:
        """Bytes that it takes, about: what its ids and names have is kept twice more, also in keys."""
        j = self.joins
        texts = [j.source_id, j.node, *j.known.values()]
        if j.within is not None:
            texts += [j.within.node_id, j.within.node_type, j.within.iteration_id, j.within.loop_id]
        if j.call is not None:
            texts.append(j.call[0])
        return len(self.raw) + _EACH + 2 * sum(len(text) for text in texts if isinstance(text, str))


class Window:
    """The lines that wait, oldest first.

    Args:
        lines: lines that wait at most.
        size: bytes that they take at most, about.
    """

    def __init__(self, lines: int = LINES, size: int = BYTES) -> None:
        self._lines, self._most = lines, size
        self._waiting: dict[int, Waiting] = {}
        self._for: dict[Key, dict[int, None]] = {}
        self._keys: dict[int, tuple[Key, ...]] = {}
        self.size = 0
        """Bytes that the lines take, about."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, line: Waiting, keys: tuple[Key, ...]) -> None:
        """Lets a line wait until more is known about one of these."""
        number = line.joins.number
        self._waiting[number] = line
        self.size += line.size
        self.move(number, keys)

    def move(self, number: int, keys: tuple[Key, ...]) -> None:
        """Lets a line that waits already wait for something else."""
        if self._keys.get(number) == keys:
            return
        self._leave(number)
        self._keys[number] = keys
        for key in dict.fromkeys(keys):
            self._for.setdefault(key, {})[number] = None

    def remove(self, number: int) -> Waiting:
        """Takes a line out."""
        self._leave(number)
        line = self._waiting.pop(number)
        self.size -= line.size
        return line

    def of(self, keys: Iterable[Key]) -> list[Waiting]:
        """The lines that wait for one of these, oldest first."""
        numbers = {n for key in keys for n in self._for.get(key, ())}
        return [self._waiting[n] for n in sorted(numbers)]

    def excess(self) -> Iterator[Waiting]:
        """The oldest lines, as long as too many wait. Each must be taken out before the next one."""
        while self._waiting and (len(self._waiting) > self._lines or self.size > self._most):
            yield next(iter(self._waiting.values()))

    def all(self) -> Iterator[Waiting]:
        """All lines, oldest first. Each must be taken out before the next one."""
        while self._waiting:
            yield next(iter(self._waiting.values()))

    def _leave(self, number: int) -> None:
        for key in dict.fromkeys(self._keys.pop(number, ())):
            waiting = self._for[key]
            waiting.pop(number, None)
            if not waiting:
                del self._for[key]
