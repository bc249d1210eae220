"""Walks through a value and counts what its JSON takes. What a kind becomes, its handler says. Pure."""

from __future__ import annotations

import base64
import datetime
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from tailrace.conversion.objects import MISSING, attribute, type_name
from tailrace.conversion.text import as_text, sound
from tailrace.cutting import DEPTH, MARK
from tailrace.plain_data import SCALARS
from tailrace.records import ChangeKind, ContentChange

CIRCLE: Final = "(circular)"
"""Stands for a value that contains itself."""
DEEP: Final = "(nested too deeply)"
NODES: Final = 500_000
"""Most values of a field that is converted, if the rest may be left out: they take half a second."""
_BITS: Final = 2_000
"""Bits of the largest integer that is written in digits. Python refuses to write more than some thousand."""
_ZONED: Final = (datetime.datetime, datetime.time)
_MARK: Final = MARK.decode()
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class TooLarge(Exception):
    """A value does not fit, and is not to be cut."""


class Conversion:
    """Converts the values of one field.

    Args:
        room: bytes that the result may have, if each of its parts is as short as it can be.
        cut: whether what exceeds that is left out; so is what exceeds `NODES`. If not, `of` raises.
        handler_of: the handler of a type; None: its values become the type's name.
    """

    def __init__(self, room: int, cut: bool, handler_of: Callable[[type], Handler | None]) -> None:
        self._most = self.room = room
        self._may_cut = cut
        self._nodes = NODES if cut else sys.maxsize
        self.converted = 0
        """Values that JSON cannot represent and that became something else."""
        self.lost = 0
        """Bytes that were left out, as far as they are known; 0: nothing was."""
        self._open: set[int] = set()
        self._handlers: dict[type, Handler | None] = {}
        self._handler_of = handler_of

    def of(self, value: Any, depth: int = DEPTH) -> Any:
        """The value as data that the JSON encoder writes.

        Raises:
            TooLarge: it does not fit, and is not to be cut.
        """
        t = type(value)
        self._nodes -= 1
        if t is str:
            return self.text(value)
        if t is int:
            return self.integer(value)
        try:
            if t not in SCALARS:
                return self._other(value, t, depth)
            self.room -= 1
            if t in _ZONED and value.tzinfo is not None:  # of a class of its own, which may raise
                return self.text(_decode(_encode(value)))
            return value
        except TooLarge:
            raise
        except Exception:  # e.g. changed by another thread while it is read, or a class of its own kind
            return self._name(t)

    def lose(self, size: int) -> None:
        """Notes that bytes are left out."""
        if not self._may_cut:
            raise TooLarge
        self.lost += size

    def fits(self, size: int, least: int = 2) -> int:
        """How many of `size` items fit, of which each has at least `least` bytes."""
        found = min(max(self.room, 0) // least, max(self._nodes, 0))
        if size > found:
            self.lose(least * (size - found))
        return min(size, found)

    def work(self, nodes: int) -> None:
        """Counts work that takes as long as so many values."""
        self._nodes -= nodes

    def changes(self, field: str) -> list[ContentChange]:
        """What was changed, as the event of `field` has it."""
        made = []
        if self.converted:
            made.append(ContentChange(field=field, change=ChangeKind.CONVERTED, count=self.converted))
        if self.lost:
            size = self._most - self.room + self.lost
            made.append(ContentChange(field=field, change=ChangeKind.CUT, bytes=size))
        return made

    # -- stand-ins
    def stand_in(self, text: str) -> str:
        self.converted += 1
        return self.text(text)

    def _name(self, t: type) -> str:
        return self.stand_in(type_name(t))

    # -- scalars
    def text(self, text: str) -> str:
        self.room -= 2
        room = max(self.room, 0)
        if len(text) > room:
            self.lose(len(text) - room)
            text = text[: max(room - len(_MARK), 0)] + _MARK
        self.room -= len(text)
        valid = sound(text)
        if valid is not text:
            self.converted += 1
        return valid

    def text_of(self, values: Sequence[Any], depth: int) -> str:
        """One value as text, or several as a tuple of them: a string as it is, everything else as JSON.

        JSON inside a text grows with each level of it, so what counts is the text.
        """
        room = self.room
        parts: list[str] = []
        for x in values[: self.fits(len(values))]:
            if self.room < 2 or self._nodes <= 0:
                self.lose(2 * (len(values) - len(parts)))
                break
            parts.append(as_text(self.of(x, depth - 1)))
        self.room = room
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"

    def integer(self, value: int) -> Any:
        bits = value.bit_length()
        if bits > _BITS:
            return self.stand_in(f"(integer of {bits} bits)")
        self.room -= 1 + bits * 3 // 10
        return msgspec.Raw(str(value).encode()) if bits > 63 else value

    def base64(self, value: bytes | bytearray | memoryview, depth: int) -> str:
        """Base64, as the encoder writes bytes."""
        view = memoryview(value)
        fits = max(self.room - 2, 0) // 4 * 3
        if view.nbytes <= fits:
            raw = view.tobytes()
        else:
            raw = view.cast("B")[:fits].tobytes()
            self.lose((view.nbytes - fits) * 4 // 3 + 1)
        text = base64.b64encode(raw).decode()
        self.room -= 2 + len(text)
        return text

    # -- collections
    def items(self, items: Iterator[Any], size: int, depth: int) -> list[Any]:
        """`items`, of which there are `size`, in the order in which they come."""
        self.room -= 1
        given = list(islice(items, self.fits(size)))  # one step: another thread may change them
        found: list[Any] = []
        for x in given:
            if self.room < 2 or self._nodes <= 0:
                self.lose(2 * (len(given) - len(found)))
                break
            self.room -= 1
            found.append(self.of(x, depth - 1))
        return found

    def pairs(self, pairs: Iterator[tuple[Any, Any]], size: int, depth: int) -> dict[str, Any]:
        self.room -= 1
        given = list(islice(pairs, self.fits(size, 5)))
        found: dict[str, Any] = {}
        repeated: dict[str, int] = {}
        for k, x in given:
            if self.room < 5 or self._nodes <= 0:
                self.lose(5 * (len(given) - len(found)))
                break
            self.room -= 2
            before = self.converted
            key = name = self._key(k, depth)
            if name in found:
                number = repeated.get(key, len(found))
                while name in found:
                    number += 1
                    name = f"{key} ({number})"
                repeated[key] = number
                self.converted = max(self.converted, before + 1)
            found[name] = self.of(x, depth - 1)
        return found

    def _key(self, value: Any, depth: int) -> str:
        t = type(value)
        if t is str:
            return self.text(value)
        before, room = self.converted, self.room
        data = self.of(value, depth - 1)
        if data is None or type(data) in (bool, list, dict):  # JSON has no such keys
            self.converted = max(self.converted, before + 1)
        self.room = room  # the text of it counts
        return self.text(as_text(data))

    def fields(self, value: Any, names: Iterable[tuple[str, str]], depth: int) -> dict[str, Any]:
        """An object by its fields: (name in the object, name to write)."""
        pairs = []
        for own, name in names:
            x = attribute(value, own)
            if x is not MISSING:
                pairs.append((name, x))
        self.converted += 1
        return self.pairs(iter(pairs), len(pairs), depth)

    # -- everything else
    def _other(self, value: Any, t: type, depth: int) -> Any:
        if t in self._handlers:
            convert = self._handlers[t]
        else:
            convert = self._handlers[t] = self._handler_of(t)
        if convert is None:
            return self._name(t)
        key = id(value)
        if key in self._open:
            return self.stand_in(CIRCLE)
        if depth <= 0:
            return self.stand_in(DEEP)
        self._open.add(key)
        try:
            return convert(self, value, depth)
        finally:
            self._open.discard(key)


Handler = Callable[[Conversion, Any, int], Any]
