"""The prompts that a language model was given, out of a node's process data, as chat messages."""

from __future__ import annotations

from typing import Final

import msgspec


class _ProcessData(msgspec.Struct, frozen=True, gc=False):
    prompts: list[dict[str, msgspec.Raw]]


_decoder: Final = msgspec.json.Decoder(_ProcessData)
_encoder: Final = msgspec.json.Encoder()


def messages(process_data: str) -> bytes | None:
    """`prompts` as a JSON array, each with its `text` as `content`; what is inside is not read. None where
    there are none."""
    try:
        prompts = _decoder.decode(process_data).prompts
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeEncodeError are ValueErrors
        return None
    if not prompts:
        return None
    for i, prompt in enumerate(prompts):
        if "text" in prompt and "content" not in prompt:
            prompts[i] = {"content" if key == "text" else key: value for key, value in prompt.items()}
    return _encoder.encode(prompts)
