"""Encodes and decodes records: schemas by fingerprint, Avro encoders and decoders, frames."""

from tailrace.codec.decoder import decoder_for, record_decoder_for
from tailrace.codec.encoder import compile_encoder
from tailrace.codec.wire import decode, decode_versioned, encode, encode_versioned

__all__ = [
    "compile_encoder",
    "decode",
    "decode_versioned",
    "decoder_for",
    "encode",
    "encode_versioned",
    "record_decoder_for",
]
