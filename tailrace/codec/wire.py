"""Frames around Avro bodies: single-object encoding on topics, a version byte in compacted state."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tailrace import records
from tailrace.codec import schemas
from tailrace.codec.decoder import Decode, compile_decoder
from tailrace.codec.encoder import Encode, compile_encoder
from tailrace.errors import DecodeError, UnknownSchema

MARKER: Final = b"\xc3\x01"
"""First two bytes of every value (Avro single-object encoding, version 1)."""
BODY: Final = 10
"""Where the Avro body starts: marker and fingerprint come before it."""

R = TypeVar("R")


@functools.cache
def frame_of(name: str) -> bytes:
    """Marker and fingerprint that values of this record start with."""
    return MARKER + schemas.fingerprint(schemas.current(name))


@functools.cache
def encoder_of(name: str) -> Encode:
    return compile_encoder(schemas.current(name), records.BY_NAME)


@functools.cache
def decoder_of(name: str, version: int) -> tuple[Decode, tuple[str, ...], type[Any]]:
    """Decoder of version `version` (from 1) of a record into its class."""
    return _into_class(name, schemas.history(name)[version - 1])


def _member(cls: type[enum.StrEnum], default: str) -> Callable[[str], enum.StrEnum]:
    """A symbol as a member; of one that this version does not know, the default."""
    return lambda symbol: cls(symbol) if symbol in cls._value2member_map_ else cls(default)


@functools.cache
def _build() -> dict[str, Callable[..., Any]]:
    """What nested records and enums are decoded into, by name."""
    enums = {e["name"]: _member(getattr(records, e["name"]), e["default"]) for e in schemas.enums()}
    return {**records.BY_NAME, **enums}


def _into_class(name: str, schema: schemas.Schema) -> tuple[Decode, tuple[str, ...], type[Any]]:
    cls: type[Any] = getattr(records, name)
    decode, paths = compile_decoder(schema, cls.__struct_fields__, text=True, build=_build())
    return decode, paths, cls


def encode(record: Any) -> bytes:
    """A record of this package as a topic value. Raises `InvalidEvent` with the field named."""
    name = type(record).__name__
    return frame_of(name) + b"".join(encoder_of(name)(record))


def split(value: bytes | None) -> bytes:
    """The fingerprint of a framed value. Raises `DecodeError` (``empty``, ``truncated``, ``bad_magic``)."""
    if not value:
        raise DecodeError("empty", "the record has no value")
    if value[:2] != MARKER:
        raise DecodeError(
            "bad_magic", f"starts with {value[:2].hex()}, not {MARKER.hex()} (Avro single-object encoding)"
        )
    if len(value) < BODY:
        raise DecodeError("truncated", f"{len(value)} bytes are less than a frame")
    return value[2:BODY]


@functools.lru_cache(maxsize=256)
def _by_fingerprint(fp: bytes) -> tuple[str, Decode, tuple[str, ...], type[Any]]:
    try:
        name, schema = schemas.by_fingerprint()[fp]
    except KeyError:
        raise UnknownSchema(fp) from None
    return (name, *_into_class(name, schema))


def decode(value: bytes, cls: type[R]) -> R:
    """A topic value as an instance of `cls`, whichever version of its schema wrote it.

    Fields that the writer did not have take their defaults, fields unknown here are dropped. Raises `DecodeError`
    (``bad_magic``, ``truncated``, ``invalid_utf8``, ``malformed``, ``wrong_record``) or `UnknownSchema`.
    """
    name, decoder, paths, found = _by_fingerprint(split(value))
    if found is not cls:
        raise DecodeError("wrong_record", f"the value is a {name}, not a {cls.__name__}")
    return cls(**dict(zip(paths, decoder(value, BODY), strict=True)))


def encode_versioned(record: Any) -> bytes:
    """A value of a compacted topic: one byte of schema version, then the Avro body."""
    name = type(record).__name__
    return bytes([len(schemas.history(name))]) + b"".join(encoder_of(name)(record))


def decode_versioned(value: bytes, cls: type[R]) -> R:
    """What `encode_versioned` wrote, in any version. Raises `DecodeError`; ``unknown_version`` names a newer writer."""
    if not value:
        raise DecodeError("empty", "the record has no value")
    version = value[0]
    if not 1 <= version <= len(schemas.history(cls.__name__)):
        raise DecodeError("unknown_version", f"{cls.__name__} version {version} was written by a newer tailrace")
    decoder, paths, _ = decoder_of(cls.__name__, version)
    return cls(**dict(zip(paths, decoder(value, 1), strict=True)))
