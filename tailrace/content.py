"""Content fields: JSON text that nothing between the publisher and the sink parses."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tailrace import records
from tailrace.codec import schemas
from tailrace.errors import InvalidEvent


class JsonText(str):
    """A string that holds JSON text. Publishing validates it once and sends it unchanged."""

    __slots__ = ()


def _other(value: Any) -> Any:
    """Encodes what msgspec cannot: nested `JsonText`, and subclasses of str, int and float."""
    if isinstance(value, JsonText):
        _check(value.encode())
        return msgspec.Raw(value.encode())
    if isinstance(value, str):
        return str.__str__(value)
    for plain in (int, float):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"{type(value).__name__} has no JSON form; for example pass a dict, a list or a string")


_encode: Final = msgspec.json.Encoder(enc_hook=_other).encode
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode


def json_text(value: Any, field: str) -> str | None:
    """`value` as JSON text. None stays None.

    `JsonText` is validated and kept; everything else is encoded, also a plain str. NaN and infinities
    become null, bytes become base64, dates RFC 3339, Decimal a string.

    Raises:
        InvalidEvent: JSON cannot represent the value.
    """
    if value is None:
        return None
    try:
        if isinstance(value, JsonText):
            _check(value.encode())
            return str(value)
        return _encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as e:
        raise InvalidEvent(field, f"cannot be written as JSON: {e}") from None


def _content_fields(schema: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f["name"] for f in schema["fields"] if f.get("content") == "json")


def _bodies() -> dict[str, tuple[type[Any], tuple[str, ...]]]:
    """Maps each TraceEvent field that holds a nested record to its class and its JSON content fields."""
    found = {}
    for field in schemas.current("TraceEvent")["fields"]:
        for branch in field["type"] if isinstance(field["type"], list) else ():
            if isinstance(branch, dict) and branch["type"] == "record":
                found[field["name"]] = (records.BY_NAME[branch["name"]], _content_fields(branch))
    return found


EVENT_CONTENT: Final = _content_fields(schemas.current("TraceEvent"))
BODY_CONTENT: Final = _bodies()


def with_json_text(event: records.TraceEvent) -> dict[str, Any]:
    """The fields of `event` whose content must be replaced by JSON text, with the new values."""
    changes: dict[str, Any] = {}
    for name in EVENT_CONTENT:
        value = getattr(event, name)
        if value is not None:
            changes[name] = json_text(value, name)
    for body_name, (cls, fields) in BODY_CONTENT.items():
        body = getattr(event, body_name)
        if body is not None and fields and isinstance(body, cls):  # the encoder rejects another class
            inner = {
                f: json_text(v, f"{body_name}.{f}") for f in fields if (v := getattr(body, f)) is not None
            }
            if inner:
                changes[body_name] = msgspec.structs.replace(body, **inner)
    return changes
