"""What the processor reads of an event: the header's prefix, by writer schema. Content is stepped over, never decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, NamedTuple

from tailrace.codec import schemas, wire
from tailrace.codec.decoder import compile_decoder
from tailrace.errors import DecodeError, UnknownSchema


class Header(NamedTuple):
    """An event's header as the processor needs it. Texts are UTF-8 bytes, times microseconds UTC."""

    event_id: bytes
    revision: int
    kind: str
    trace_id: bytes | None
    source_id: bytes
    parent_id: bytes | None
    parent_run_id: bytes | None
    parent_node_execution_id: bytes | None
    root_trace_id: bytes | None
    root_run_id: bytes | None
    root_app_id: bytes | None
    root_started_at: int | None
    tenant_id: bytes | None
    app_id: bytes | None
    workflow_run_id: bytes | None
    message_id: bytes | None
    conversation_id: bytes | None
    user_id: bytes | None
    session_id: bytes | None
    otel_trace_id: bytes | None
    otel_span_id: bytes | None
    otel_parent_span_id: bytes | None
    app_name: bytes | None
    workspace_name: bytes | None
    started_at: int
    ended_at: int
    error: bytes | None


Read = Callable[[bytes], Header]
_DEFAULTS: Final = {"revision": 0}
_TEXTS: Final = tuple(
    i for i, name in enumerate(Header._fields)
    if name not in ("revision", "kind", "root_started_at", "started_at", "ended_at") and not name.startswith("otel_")
)  # fmt: skip

_texts: Final = itemgetter(*_TEXTS)


def _reader(schema: dict[str, Any]) -> Read:
    decode, paths = compile_decoder(schema, Header._fields)
    make = Header._make
    if paths == Header._fields:

        def whole(value: bytes) -> Header:
            return make(decode(value, wire.BODY))

        return whole

    def partial(value: bytes) -> Header:
        found = dict(zip(paths, decode(value, wire.BODY), strict=True))
        return make(found.get(name, _DEFAULTS.get(name)) for name in Header._fields)

    return partial


@functools.lru_cache(maxsize=256)
def _reader_of(fingerprint: bytes) -> Read:
    try:
        name, schema = schemas.by_fingerprint()[fingerprint]
    except KeyError:
        raise UnknownSchema(fingerprint) from None
    if name != "TraceEvent":
        raise DecodeError("wrong_record", f"the value is a {name}, not a TraceEvent")
    return _reader(schema)


def read(value: bytes | None) -> Header:
    """The header of a record of trace.events, whichever schema version wrote it.

    The whole record is walked, so that a torn one is found here and not once a sink; of the texts only those named in
    `Header` are checked to be UTF-8. Raises `DecodeError` (``empty``, ``bad_magic``, ``truncated``, ``malformed``,
    ``invalid_utf8``, ``wrong_record``) or `UnknownSchema`.
    """
    header = _reader_of(wire.split(value))(value or b"")
    if not b"".join(filter(None, _texts(header))).isascii():
        _check_utf8(header)
    return header


def _check_utf8(header: Header) -> None:
    for i in _TEXTS:
        text = header[i]
        if isinstance(text, bytes):
            try:
                text.decode()
            except UnicodeDecodeError as e:
                raise DecodeError("invalid_utf8", f"{Header._fields[i]}: {e}") from None
