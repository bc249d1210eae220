"""Encodes and decodes values with their frames.

On topics the frame is that of Avro's single-object encoding, or Confluent's wire format; in compacted state
topics it is a version byte.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tailrace import records
from tailrace.codec import schemas
from tailrace.codec.decoder import record_decoder_for
from tailrace.codec.encoder import UNLIMITED, Encode, compile_encoder
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
    """The single-object frame of a record: marker and fingerprint of its current schema."""
    return MARKER + schemas.fingerprint(schemas.current(name))


@functools.cache
def encoder_of(name: str) -> Encode:
    """The encoder of a record's current schema. That of events is lenient: applications make them."""
    return compile_encoder(schemas.current(name), records.BY_NAME, lenient=name == "TraceEvent")


@functools.cache
def decoder_of(name: str, version: int) -> tuple[Callable[[bytes, int], Any], type[Any]]:
    """The decoder of one version (from 1) of a record's schema into the record's class, and the class."""
    return _into_class(name, schemas.history(name)[version - 1])


def _member(cls: type[enum.StrEnum], default: str) -> Callable[[str], enum.StrEnum]:
    """A function from a symbol to its member; for a symbol that this version does not know, the default."""
    return lambda symbol: cls(symbol) if symbol in cls._value2member_map_ else cls(default)


@functools.cache
def build() -> dict[str, Callable[..., Any]]:
    """Name -> what a nested record or an enum is decoded into."""
    enums = {e["name"]: _member(getattr(records, e["name"]), e["default"]) for e in schemas.enums()}
    return {**records.BY_NAME, **enums}


@functools.cache
def symbols() -> dict[str, Callable[[str], str]]:
    """As `build`, for readers that want enums as text.

    Enum name -> function from a symbol to itself; for a symbol that this version does not know, to the
    default.
    """

    def reader(known: frozenset[str], default: str) -> Callable[[str], str]:
        return lambda symbol: symbol if symbol in known else default

    return {e["name"]: reader(frozenset(e["symbols"]), e["default"]) for e in schemas.enums()}


def _into_class(name: str, schema: schemas.Schema) -> tuple[Callable[[bytes, int], Any], type[Any]]:
    cls: type[Any] = getattr(records, name)
    return record_decoder_for(schema, cls.__struct_fields__, cls, build=build()), cls


def encode(record: Any, frame: bytes | None = None, most: int = UNLIMITED) -> bytes:
    """Encodes a record of this package as a topic value.

    In an event an empty text is written as null, and None as an empty list or map.

    Args:
        record: The record.
        frame: Written before the body; default: the single-object frame.
        most: Characters that a text may have, and items that a list or map may have.

    Raises:
        InvalidEvent: A field's value does not match its type. The error names the field.
        EventTooLarge: A value has more characters or items than `most`.
    """
    name = type(record).__name__
    return (frame or frame_of(name)) + b"".join(encoder_of(name)(record, most))


def frame_in(value: bytes | None) -> bytes:
    """The frame of a value. Its length is the body's offset.

    Raises:
        DecodeError: The value has no valid frame (``empty``, ``truncated``, ``bad_magic``).
    """
    if not value:
        raise DecodeError("empty", "the record has no value")
    if value[0] == 0:
        end = ID_BODY
    elif value[:2] == MARKER:
        end = BODY
    else:
        raise DecodeError(
            "bad_magic",
            f"starts with {value[:2].hex()}, not with {MARKER.hex()} (Avro single-object encoding) or 00 "
            "(schema id of a registry)",
        )
    if len(value) < end:
        raise DecodeError("truncated", f"{len(value)} bytes are less than a frame of {end} bytes")
    return value[:end]


@functools.lru_cache(maxsize=256)
def _by_frame(frame: bytes) -> tuple[str, Callable[[bytes, int], Any], type[Any]]:
    name, schema = schemas.known.find_or_want(frame)
    return (name, *_into_class(name, schema))


def decode(value: bytes, cls: type[R]) -> R:
    """Decodes a topic value, written with any version of the schema and with either frame.

    Fields that the writer's schema lacks get their defaults. Fields that `cls` lacks are dropped.

    Args:
        value: The value.
        cls: The record's class.

    Raises:
        UnknownSchema: The writer's schema is not known.
        DecodeError: The value cannot be decoded (``empty``, ``bad_magic``, ``truncated``, ``invalid_utf8``,
            ``malformed``, ``wrong_record``, ``unreadable_schema``).
    """
    frame = frame_in(value)
    name, decoder, decoded_class = _by_frame(frame)
    if decoded_class is not cls:
        raise DecodeError("wrong_record", f"the value is a {name}, not a {cls.__name__}")
    record: R = decoder(value, len(frame))
    return record


def encode_versioned(record: Any) -> bytes:
    """Encodes a value of a compacted topic: one byte of schema version, then the Avro body."""
    name = type(record).__name__
    return bytes([len(schemas.history(name))]) + b"".join(encoder_of(name)(record))


def decode_versioned(value: bytes, cls: type[R]) -> R:
    """Decodes a value of `encode_versioned`, of any version.

    Raises:
        DecodeError: The value cannot be decoded; ``unknown_version`` if a newer tailrace wrote it.
    """
    if not value:
        raise DecodeError("empty", "the record has no value")
    version = value[0]
    if not 1 <= version <= len(schemas.history(cls.__name__)):
        raise DecodeError(
            "unknown_version",
            f"{cls.__name__} version {version} was written by a newer tailrace; upgrade this one",
        )
    record: R = decoder_of(cls.__name__, version)[0](value, 1)
    return record
