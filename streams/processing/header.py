"""What the processor reads of an event: the header's prefix, by writer schema. Content is stepped over, never
decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

from tailrace.codec import schemas, wire
from tailrace.codec.decoder import Decode, decoder_for
from tailrace.errors import DecodeError

NAMES: Final = (
    "event_id",
    "revision",
    "kind",
    "trace_id",
    "source_id",
    "parent_id",
    "parent_run_id",
    "parent_node_execution_id",
    "root_trace_id",
    "root_run_id",
    "root_app_id",
    "root_started_at",
    "tenant_id",
    "app_id",
    "workflow_run_id",
    "message_id",
    "conversation_id",
    "user_id",
    "session_id",
    "otel_trace_id",
    "otel_span_id",
    "otel_parent_span_id",
    "app_name",
    "workspace_name",
    "name",
    "started_at",
    "ended_at",
    "status",
    "error",
    "model_provider",
    "model_name",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "total_price",
    "currency",
    "node_type",
    "span_kind",
    "tool_name",
    "plugin_name",
    "dataset_ids",
    "operation_type",
    "invoke_from",
    "rating",
    "mode",
    "time_to_first_token",
    "node_dataset_names",
    "retrieved_dataset_names",
)
"""Fields of `Header`, in the order of the schema."""


class Header:
    """An event's header as the processor needs it. Texts are UTF-8 bytes, times microseconds UTC."""

    __slots__ = NAMES

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

    def __init__(self, values: tuple[Any, ...]) -> None:
        """values: of all fields, in their order."""
        (
            self.event_id,
            self.revision,
            self.kind,
            self.trace_id,
            self.source_id,
            self.parent_id,
            self.parent_run_id,
            self.parent_node_execution_id,
            self.root_trace_id,
            self.root_run_id,
            self.root_app_id,
            self.root_started_at,
            self.tenant_id,
            self.app_id,
            self.workflow_run_id,
            self.message_id,
            self.conversation_id,
            self.user_id,
            self.session_id,
            self.otel_trace_id,
            self.otel_span_id,
            self.otel_parent_span_id,
            self.app_name,
            self.workspace_name,
            self.name,
            self.started_at,
            self.ended_at,
            self.status,
            self.error,
            self.model_provider,
            self.model_name,
            self.input_tokens,
            self.output_tokens,
            self.total_tokens,
            self.total_price,
            self.currency,
            self.node_type,
            self.span_kind,
            self.tool_name,
            self.plugin_name,
            self.dataset_ids,
            self.operation_type,
            self.invoke_from,
            self.rating,
            self.mode,
            self.time_to_first_token,
            self.node_dataset_names,
            self.retrieved_dataset_names,
        ) = values


Read = Callable[[bytes], tuple[Any, ...]]
_PATHS: Final = {
    "node_dataset_names": "node_execution.dataset_names",
    "retrieved_dataset_names": "dataset_retrieval.dataset_names",
}
_FIELDS: Final = tuple(_PATHS.get(name, name) for name in NAMES)
"""Path in the schema of each field."""
_NO_TEXT: Final = {
    "revision",
    "kind",
    "root_started_at",
    "started_at",
    "ended_at",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "span_kind",
    "dataset_ids",
    "time_to_first_token",
    *_PATHS,
}
_TEXTS: Final = tuple(
    i for i, name in enumerate(NAMES) if name not in _NO_TEXT and not name.startswith("otel_")
)
_LISTS: Final = ("dataset_ids", *_PATHS)

_texts: Final = itemgetter(*_TEXTS)


_whole: Final[dict[bytes, Decode]] = {}
"""Frame of a record -> decoder of a schema that has every field of `Header`, in its order."""


def _reader(frame: bytes, schema: dict[str, Any]) -> Read:
    decode, paths = decoder_for(schema, _FIELDS, build=wire.symbols())
    body = len(frame)
    if paths == _FIELDS:
        _whole[frame] = decode

    def partial(value: bytes) -> tuple[Any, ...]:
        found: dict[str, Any] = {"revision": 0, "dataset_ids": []}
        found.update(zip(paths, decode(value, body), strict=True))
        return tuple(found.get(path) for path in _FIELDS)

    return partial


@functools.lru_cache(maxsize=256)
def _reader_of(frame: bytes) -> Read:
    name, schema = schemas.known.find(frame)
    if name != "TraceEvent":
        raise DecodeError("wrong_record", f"the value is a {name}, not a TraceEvent")
    return _reader(frame, schema)


def read(value: bytes | None) -> Header:
    """The header of a record of trace.events, whichever schema wrote it, in either frame.

    The whole record is walked, so that a torn one is found here and not once a sink; of the texts only those
    named in `Header` are checked to be UTF-8. Raises `DecodeError` (``empty``, ``bad_magic``, ``truncated``,
    ``malformed``, ``invalid_utf8``, ``wrong_record``, ``unreadable_schema``) or `UnknownSchema`; it looks for
    no schema, its caller did."""
    value = value or b""
    decode = _whole.get(value[: wire.BODY])
    if decode is not None:
        values = decode(value, wire.BODY)
    else:
        decode = _whole.get(value[: wire.ID_BODY])
        values = _reader_of(wire.frame_in(value))(value) if decode is None else decode(value, wire.ID_BODY)
    header = Header(values)
    if not b"".join(filter(None, _texts(values))).isascii() or header.dataset_ids:
        _check_utf8(header, values)
    return header


def _check_utf8(header: Header, values: tuple[Any, ...]) -> None:
    texts: list[tuple[str, Any]] = [(NAMES[i], values[i]) for i in _TEXTS]
    texts += [(name, text) for name in _LISTS for text in getattr(header, name) or ()]
    for name, text in texts:
        try:
            (text or b"").decode()
        except UnicodeDecodeError as e:
            raise DecodeError("invalid_utf8", f"{name}: {e}") from None
