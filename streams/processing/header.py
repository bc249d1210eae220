"""Reads the header of an event, whichever schema wrote it. Content is skipped, never decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

from streams.processing.header_fields import (
    LISTS_OF_TEXTS,
    NAMES,
    NESTED_PATHS,
    RECORDS,
    TEXTS,
    Header,
    defaults,
)
from tailrace.codec import schemas, wire
from tailrace.codec.decoder import Decode, decoder_for
from tailrace.errors import DecodeError

__all__ = ["NAMES", "PATHS", "Header", "read"]

REQUIRED: Final = ("event_id", "source_id")
"""Texts that are never null, but may be empty."""

PATHS: Final = tuple(NESTED_PATHS.get(name, name) for name in NAMES)
"""The path in the schema of each name in `NAMES`."""
_texts: Final = itemgetter(*[NAMES.index(name) for name in TEXTS])

Read = Callable[[bytes], tuple[Any, ...]]
_whole: Final[dict[bytes, Decode]] = {}
"""Frame -> decoder, for schemas that have every field of `Header` in the same order."""


def _reader(frame: bytes, schema: dict[str, Any]) -> Read:
    build = {**wire.symbols(), **RECORDS}
    decode, paths = decoder_for(schema, PATHS, build=build, required=REQUIRED)
    body = len(frame)
    if paths == PATHS:
        _whole[frame] = decode

    def partial(value: bytes) -> tuple[Any, ...]:
        by_path = defaults()
        by_path.update(zip(paths, decode(value, body), strict=True))
        return tuple(by_path.get(path) for path in PATHS)

    return partial


@functools.lru_cache(maxsize=256)
def _reader_of(frame: bytes) -> Read:
    name, schema = schemas.known.find(frame)
    if name != "TraceEvent":
        raise DecodeError("wrong_record", f"the value is a {name}, not a TraceEvent")
    return _reader(frame, schema)


def read(value: bytes | None) -> Header:
    """The header of a record of `trace.events`, written with any schema and with either frame.

    An empty text is null, except those in `REQUIRED`; so is an OpenTelemetry id of zeros. The whole record is
    walked, so a truncated one is found here instead of in each sink. Only the texts in `Header` are checked
    to be UTF-8.

    Raises:
        UnknownSchema: The writer's schema is not known. It is not requested here; that is the caller's task.
        DecodeError: The record cannot be decoded (``empty``, ``bad_magic``, ``truncated``, ``malformed``,
            ``invalid_utf8``, ``wrong_record``, ``unreadable_schema``).
    """
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
    texts: list[tuple[str, Any]] = list(zip(TEXTS, _texts(values), strict=True))
    texts += [(name, text) for name in LISTS_OF_TEXTS for text in getattr(header, name) or ()]
    for name, text in texts:
        try:
            (text or b"").decode()
        except UnicodeDecodeError as e:
            raise DecodeError("invalid_utf8", f"{name}: {e}") from None
