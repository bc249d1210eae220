"""Frames around Avro bodies: single-object encoding or Confluent's wire format on topics, a version byte in
compacted state."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tailrace import records
from tailrace.codec import schemas
from tailrace.codec.decoder import record_decoder_for
from tailrace.codec.encoder import Encode, compile_encoder
from tailrace.codec.schemas import BODY, ID_BODY, MARKER
from tailrace.errors import DecodeError

__all__ = [
    "BODY",
    "ID_BODY",
    "MARKER",
    "build",
    "decode",
    "decode_versioned",
    "encode",
    "encode_versioned",
    "frame_in",
    "frame_of",
    "symbols",
]

R = TypeVar("R")


@functools.cache
def frame_of(name: str) -> bytes:
    """Marker and fingerprint that values of this record start with."""
    return MARKER + schemas.fingerprint(schemas.current(name))


@functools.cache
def encoder_of(name: str) -> Encode:
    return compile_encoder(schemas.current(name), records.BY_NAME)


@functools.cache
def decoder_of(name: str, version: int) -> tuple[Callable[[bytes, int], Any], type[Any]]:
    """Decoder of version `version` (from 1) of a record into its class."""
    return _into_class(name, schemas.history(name)[version - 1])


def _member(cls: type[enum.StrEnum], default: str) -> Callable[[str], enum.StrEnum]:
    """A symbol as a member; of one that this version does not know, the default."""
    return lambda symbol: cls(symbol) if symbol in cls._value2member_map_ else cls(default)


@functools.cache
def build() -> dict[str, Callable[..., Any]]:
    """What nested records and enums are decoded into, by name."""
    enums = {e["name"]: _member(getattr(records, e["name"]), e["default"]) for e in schemas.enums()}
    return {**records.BY_NAME, **enums}


@functools.cache
def symbols() -> dict[str, Callable[[str], str]]:
    """For readers that want enums as text, by the enum's name: a symbol, or the default of one that this
    version does not know."""

    def reader(known: frozenset[str], default: str) -> Callable[[str], str]:
        return lambda symbol: symbol if symbol in known else default

    return {e["name"]: reader(frozenset(e["symbols"]), e["default"]) for e in schemas.enums()}


def _into_class(name: str, schema: schemas.Schema) -> tuple[Callable[[bytes, int], Any], type[Any]]:
    cls: type[Any] = getattr(records, name)
    return record_decoder_for(schema, cls.__struct_fields__, cls, build=build()), cls


def encode(record: Any, frame: bytes | None = None) -> bytes:
    """A record of this package as a topic value. frame: what to write before the body; default: marker and
    fingerprint. Raises `InvalidEvent` with the field named."""
    name = type(record).__name__
    return (frame or frame_of(name)) + b"".join(encoder_of(name)(record))


def frame_in(value: bytes | None) -> bytes:
    """What stands before a value's body; its length is where the body starts. Raises `DecodeError`
    (``empty``, ``truncated``, ``bad_magic``)."""
    if not value:
        raise DecodeError("empty", "the record has no value")
    if value[0] == 0:
        end = ID_BODY
    elif value[:2] == MARKER:
        end = BODY
    else:
        raise DecodeError(
            "bad_magic",
            f"starts with {value[:2].hex()}, not {MARKER.hex()} (Avro single-object encoding) or 00 (a "
            "registry's schema id)",
        )
    if len(value) < end:
        raise DecodeError("truncated", f"{len(value)} bytes are less than a frame")
    return value[:end]


@functools.lru_cache(maxsize=256)
def _by_frame(found: bytes) -> tuple[str, Callable[[bytes, int], Any], type[Any]]:
    name, schema = schemas.known.find_or_want(found)
    return (name, *_into_class(name, schema))


def decode(value: bytes, cls: type[R]) -> R:
    """A topic value as an instance of `cls`, whichever version of its schema wrote it, in either frame.

    Fields that the writer did not have take their defaults, fields unknown here are dropped. Raises
    `DecodeError` (``bad_magic``, ``truncated``, ``invalid_utf8``, ``malformed``, ``wrong_record``,
    ``unreadable_schema``) or `UnknownSchema`."""
    first = frame_in(value)
    name, decoder, found = _by_frame(first)
    if found is not cls:
        raise DecodeError("wrong_record", f"the value is a {name}, not a {cls.__name__}")
    record: R = decoder(value, len(first))
    return record


def encode_versioned(record: Any) -> bytes:
    """A value of a compacted topic: one byte of schema version, then the Avro body."""
    name = type(record).__name__
    return bytes([len(schemas.history(name))]) + b"".join(encoder_of(name)(record))


def decode_versioned(value: bytes, cls: type[R]) -> R:
    """What `encode_versioned` wrote, in any version. Raises `DecodeError`; ``unknown_version`` names a newer
    writer."""
    if not value:
        raise DecodeError("empty", "the record has no value")
    version = value[0]
    if not 1 <= version <= len(schemas.history(cls.__name__)):
        raise DecodeError(
            "unknown_version", f"{cls.__name__} version {version} was written by a newer tailrace"
        )
    record: R = decoder_of(cls.__name__, version)[0](value, 1)
    return record
