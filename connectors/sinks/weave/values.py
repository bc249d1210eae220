"""Texts that Weave's server would take for references to its objects. Pure."""

from __future__ import annotations

import re
from typing import Final

_REFERENCE: Final = re.compile(rb"(weave(?:-trace-internal)?):(?=(?:\\*/){3})")
"""The start of a reference, outside or inside the server. In JSON its slashes may have escapes."""
_ESCAPED: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u00(6[1359]|6[cCeE]|7[2467]|2[dDfF]|3[aA])")
"""An escape in JSON of a character that such a start has, with what is before it in a row of backslashes."""


def without_references(data: bytes) -> bytes:
    """The data with `weave;///` for `weave:///`, and the same for `weave-trace-internal:///`.

    Weave's server looks up every text that starts so, and those in JSON that is itself a text, before it
    stores a request. It refuses the whole request if one is not a reference to something that the key may
    see: so a user of an application could keep its calls from Weave by what they type.

    The length stays the same, so the data may be JSON or protobuf.
    """
    return _REFERENCE.sub(rb"\1;", data) if b"/" in data else data


def json_without_references(data: bytes) -> bytes:
    """The same for JSON, in which letters may be written as escapes."""
    if b"\\" in data and b"\\u00" in data:  # a single character is found ten times faster
        data = _ESCAPED.sub(_character, data)
    return without_references(data)


def _character(found: re.Match[bytes]) -> bytes:
    return found[1] + bytes.fromhex(found[2].decode())
