"""What the processor reads of an event: the header's prefix, by writer schema. Content is stepped over, never decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, NamedTuple

from tailrace.codec import schemas, wire
from tailrace.codec.decoder import Decode, compile_decoder
from tailrace.errors import DecodeError


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
    name: bytes | None
    started_at: int
    ended_at: int
    status: bytes | None
    error: bytes | None
    model_provider: bytes | None
    model_name: bytes | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    total_price: bytes | None
    currency: bytes | None
    node_type: bytes | None
    span_kind: str | None
    tool_name: bytes | None
    plugin_name: bytes | None
    dataset_ids: list[bytes]
    operation_type: bytes | None
    invoke_from: bytes | None
    rating: bytes | None
    mode: bytes | None
    time_to_first_token: int | None
    node_dataset_names: list[bytes] | None
    """Of a node's body."""
    retrieved_dataset_names: list[bytes] | None
    """Of a dataset retrieval's body."""


Read = Callable[[bytes], Header]
_PATHS: Final = {
    "node_dataset_names": "node_execution.dataset_names",
    "retrieved_dataset_names": "dataset_retrieval.dataset_names",
}
_FIELDS: Final = tuple(_PATHS.get(name, name) for name in Header._fields)
"""Path in the schema of each field."""
_NO_TEXT: Final = {
    "revision", "kind", "root_started_at", "started_at", "ended_at", "input_tokens", "output_tokens", "total_tokens", "span_kind", "dataset_ids",
    "time_to_first_token", *_PATHS,
}  # fmt: skip
_TEXTS: Final = tuple(
    i for i, name in enumerate(Header._fields) if name not in _NO_TEXT and not name.startswith("otel_")
)
_LISTS: Final = ("dataset_ids", *_PATHS)

_texts: Final = itemgetter(*_TEXTS)


_whole: Final[dict[bytes, Decode]] = {}
"""Frame of a record -> decoder of a schema that has every field of `Header`, in its order."""
_new: Final[Callable[[type[Header], tuple[Any, ...]], Header]] = tuple.__new__


def _reader(frame: bytes, schema: dict[str, Any]) -> Read:
    decode, paths = compile_decoder(schema, _FIELDS, build=wire.symbols())
    make, body = Header._make, len(frame)
    if paths == _FIELDS:
        _whole[frame] = decode

    def partial(value: bytes) -> Header:
        found: dict[str, Any] = {"revision": 0, "dataset_ids": []}
        found.update(zip(paths, decode(value, body), strict=True))
        return make(found.get(path) for path in _FIELDS)

    return partial


@functools.lru_cache(maxsize=256)
def _reader_of(frame: bytes) -> Read:
    name, schema = schemas.known.find(frame)
    if name != "TraceEvent":
        raise DecodeError("wrong_record", f"the value is a {name}, not a TraceEvent")
    return _reader(frame, schema)


def read(value: bytes | None) -> Header:
    """The header of a record of trace.events, whichever schema wrote it, in either frame.

    The whole record is walked, so that a torn one is found here and not once a sink; of the texts only those named in
    `Header` are checked to be UTF-8. Raises `DecodeError` (``empty``, ``bad_magic``, ``truncated``, ``malformed``,
    ``invalid_utf8``, ``wrong_record``, ``unreadable_schema``) or `UnknownSchema`; it looks for no schema, its caller did.
    """
    value = value or b""
    decode = _whole.get(value[: wire.BODY])
    if decode is not None:
        header = _new(Header, decode(value, wire.BODY))
    else:
        decode = _whole.get(value[: wire.ID_BODY])
        if decode is not None:
            header = _new(Header, decode(value, wire.ID_BODY))
        else:
            header = _reader_of(wire.frame_in(value))(value)
    if not b"".join(filter(None, _texts(header))).isascii() or header.dataset_ids:
        _check_utf8(header)
    return header


def _check_utf8(header: Header) -> None:
    texts: list[tuple[str, Any]] = [(Header._fields[i], header[i]) for i in _TEXTS]
    texts += [(name, text) for name in _LISTS for text in getattr(header, name) or ()]
    for name, text in texts:
        try:
            (text or b"").decode()
        except UnicodeDecodeError as e:
            raise DecodeError("invalid_utf8", f"{name}: {e}") from None
