"""A JSON object of Dify, read field by field. Pure.

It knows which fields were read, so that what has no place in an event is never lost in silence. A field
that an event cannot do without is refused if it is wrong; any other is left out, and that is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tailrace import money
from tailrace.conversion import JsonText
from tailrace.errors import InvalidEvent
from tailrace.formats import Note

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_plain = msgspec.json.Decoder().decode
_ERRORS: Final = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError)
_LONG: Final = 1 << 63
_NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,3})?")
_LONGEST: Final = 30 * 86_400 * 1_000_000 * 100
"""The longest duration that is read, microseconds: 3,000 days."""
_LISTED: Final = 10_000
"""Items of a list that are read; further ones are left out, which is noted."""


def fields_of(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, each as it is written.

    Raises:
        ValueError: it is not a JSON object.
    """
    try:
        return _fields(raw)
    except _ERRORS as e:
        raise ValueError(str(e)) from None


class Info:
    """The fields of one object.

    Args:
        path: the object's path in the line, for messages; "" for the line itself.
        raw: name -> value as it is written.
        notes: where what was left out is noted.
    """

    def __init__(self, path: str, raw: Mapping[str, msgspec.Raw], notes: list[Note]) -> None:
        self._path, self._raw, self._notes = path, raw, notes
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        """The full name of a field."""
        return f"{self._path}.{name}" if self._path else name

    def has(self, name: str) -> bool:
        """Whether there is such a field, and it is not null."""
        return name in self._raw and bytes(self._raw[name]).strip() != b"null"

    def raw(self, name: str) -> bytes | None:
        """A value as it is written; None if it is missing or null."""
        self._read.add(name)
        return bytes(self._raw[name]).strip() if self.has(name) else None

    def value(self, name: str) -> Any:
        """A value as Python has it; None if it is missing, null, or cannot be decoded, which is noted."""
        found = self.raw(name)
        if found is None:
            return None
        try:
            return _plain(found)
        except _ERRORS:
            self.unread(name, "is not valid JSON")
            return None

    def unread(self, name: str, why: str) -> None:
        """Notes that a field is left out because of its value."""
        self._notes.append(Note("unread", self.path(name), why))

    def text(self, *names: str) -> str | None:
        """The first of these fields that is a text or a number and not empty."""
        for name in names:
            value = self.value(name)
            if value is None or value == "":
                continue
            if isinstance(value, str):
                if _is_sound(value):
                    return value
                self.unread(name, "is not valid Unicode")
            elif type(value) is int:
                return str(value)
            else:
                self.unread(name, "is not a text")
        return None

    def required(self, name: str) -> str:
        """A text that an event cannot do without.

        Raises:
            InvalidEvent: it is missing, empty or not a text.
        """
        if not self.has(name):
            raise InvalidEvent(self.path(name), "is missing")
        found = self.text(name)
        if found is None:
            raise InvalidEvent(self.path(name), "is not a text, or is empty")
        return found

    def integer(self, name: str) -> int | None:
        """A whole number of 64 bits."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and -_LONG <= value < _LONG:
            return value
        self.unread(name, "is not a whole number of 64 bits")
        return None

    def count(self, name: str) -> int | None:
        """A whole number of 0 or more."""
        found = self.integer(name)
        if found is not None and found < 0:
            self.unread(name, "is negative")
            return None
        return found

    def flag(self, name: str) -> bool | None:
        """true or false."""
        value: bool | None = self.value(name)
        if value is None or type(value) is bool:
            return value
        self.unread(name, "is not true or false")
        return None

    def seconds(self, name: str) -> int | None:
        """A duration in seconds, as whole microseconds."""
        value = self.value(name)
        if value is None:
            return None
        if type(value) in (int, float) and 0 <= value <= _LONGEST / 1_000_000:
            us: int = round(value * 1_000_000)
            return us
        self.unread(name, "is not a duration in seconds")
        return None

    def price(self, name: str) -> str | None:
        """A price, from a text or a number, which is read digit by digit."""
        raw = self.raw(name)
        if raw is None:
            return None
        text = raw.decode(errors="replace")
        if text.startswith('"'):
            text = self.text(name) or ""
        if not text:
            return None
        try:
            if _NUMBER.fullmatch(text):
                return money.price_text(name, text)
        except InvalidEvent:
            pass
        self.unread(name, "is not a price")
        return None

    def content(self, name: str) -> JsonText | None:
        """A value as it is written, for a field that takes any JSON."""
        found = self.raw(name)
        if found is None:
            return None
        try:
            return JsonText(found.decode())
        except UnicodeDecodeError:
            self.unread(name, "is not valid Unicode")
            return None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts. A single text is a list of one; an object in it is its JSON text."""
        raw = self.raw(name)
        if raw is None:
            return ()
        if raw[:1] != b"[":
            one = self._item(name, raw)
            return () if one is None else (one,)
        try:
            items = _items(raw)
        except _ERRORS:
            self.unread(name, "is not valid JSON")
            return ()
        if len(items) > _LISTED:
            self.unread(name, f"has more than {_LISTED} items; the others are left out")
        found = (self._item(name, bytes(item).strip()) for item in items[:_LISTED])
        return tuple(text for text in found if text is not None)

    def _item(self, name: str, raw: bytes) -> str | None:
        if raw in (b"null", b'""'):
            return None
        try:
            value = _plain(raw)
            text = value if isinstance(value, str) else raw.decode()
        except _ERRORS:
            value, text = None, ""
        if isinstance(value, (str, dict, list)) and text and _is_sound(text):
            return text
        self.unread(name, "has an item that is neither a text nor an object")
        return None

    def inner(self, name: str) -> Info | None:
        """An object in this one; None if it is missing or no object, which is noted."""
        raw = self.raw(name)
        if raw is None:
            return None
        try:
            return Info(self.path(name), _fields(raw), self._notes)
        except _ERRORS:
            self.unread(name, "is not an object")
            return None

    def skip(self, *names: str) -> None:
        """Says that these fields were looked at."""
        self._read.update(names)

    def rest(self) -> Iterator[tuple[str, bytes]]:
        """The fields that nobody has read and that have a value: name, value as it is written."""
        for name in self._raw:
            if name not in self._read and (text := bytes(self._raw[name]).strip()) not in _EMPTY:
                yield name, text

    def repeats(self, name: str, value: bytes, prefixes: tuple[str, ...] = ("",)) -> bool:
        """Whether a field of this object, of that name after one of the prefixes, has the same value."""
        for prefix in prefixes:
            own = self._raw.get(prefix + name)
            if own is not None and _same(bytes(own).strip(), value):
                return True
        return False


_EMPTY: Final = (b"null", b'""', b"[]", b"{}")


def _same(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    try:
        return bool(_plain(one) == _plain(other))
    except _ERRORS:
        return False


def _is_sound(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
