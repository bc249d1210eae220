"""Records to bytes and back: schemas by fingerprint, generated encoders and decoders, frames."""

from tailrace.codec.decoder import compile_builder, compile_decoder
from tailrace.codec.encoder import compile_encoder
from tailrace.codec.wire import decode, decode_versioned, encode, encode_versioned

__all__ = [
    "compile_builder",
    "compile_decoder",
    "compile_encoder",
    "decode",
    "decode_versioned",
    "encode",
    "encode_versioned",
]
