"""Members of a JSON object as keys of the mapping idiom. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec
import orjson

from connectors.mapping.rows import Key

_check: Final[Callable[[str], Any]] = msgspec.json.Decoder(msgspec.Raw).decode
_SHORT: Final = 128
_KEPT: Final = 256
"""A member keeps so many of its last values, if they are no longer than that, in bytes: most texts of events
repeat (tenants, models, states, the ids of a trace)."""
_dumps: Final[Callable[[Any], bytes]] = orjson.dumps


@final
class JsonMember(Key):
    """A member, with the comma before it. Raises TypeError (`orjson.JSONEncodeError`) for text that UTF-8
    cannot say."""

    def __init__(self, name: str) -> None:
        self._prefix: Final[bytes] = b"," + orjson.dumps(name) + b":"
        self._texts: Final[dict[str, bytes]] = {}

    def text(self, out: list[bytes], value: str) -> None:
        found = self._texts.get(value)
        if found is None:
            found = self._prefix + _dumps(value)
            if len(found) <= _SHORT:
                if len(self._texts) >= _KEPT:
                    self._texts.clear()
                self._texts[value] = found
        out.append(found)

    def integer(self, out: list[bytes], value: int) -> None:
        out.append(self._prefix)
        out.append(_dumps(value))

    def flag(self, out: list[bytes], value: bool) -> None:
        out.append(self._prefix)
        out.append(b"true" if value else b"false")

    def texts(self, out: list[bytes], value: Sequence[str]) -> None:
        out.append(self._prefix)
        out.append(_dumps(value))

    def json(self, out: list[bytes], text: str) -> None:
        """As `json_value`."""
        value = json_value(text)
        if value is not None:
            out.append(self._prefix)
            out.append(value)

    def seconds(self, out: list[bytes], microseconds: int) -> None:
        out.append(self._prefix)
        out.append(_dumps(microseconds / 1_000_000))

    def encoded(self, out: list[bytes], data: bytes) -> None:
        out.append(self._prefix)
        out.append(data)


def joined(members: list[bytes]) -> bytes:
    """A JSON object of what keys have written."""
    return b"{" + b"".join(members)[1:] + b"}"


def json_value(text: str | None) -> bytes | None:
    """Content as a JSON value: as it stands, or as a JSON string where it isn't JSON. None: no content, or
    null."""
    if text is None or text == "null":
        return None
    return text.encode() if is_json(text) else _dumps(text)


def is_json(text: str) -> bool:
    """Whether a text is JSON; costs about 0.5 µs a KB."""
    try:
        _check(text)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeEncodeError are ValueErrors
        return False
    return True
