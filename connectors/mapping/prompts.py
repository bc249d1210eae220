"""Extracts the prompts of a language model from a node's process data, as chat messages."""

from __future__ import annotations

from typing import Final

import msgspec


class _ProcessData(msgspec.Struct, frozen=True, gc=False):
    prompts: list[dict[str, msgspec.Raw]]


_decoder: Final = msgspec.json.Decoder(_ProcessData)
_encoder: Final = msgspec.json.Encoder()


def messages(process_data: str) -> bytes | None:
    """The prompts as a JSON array of chat messages: `text` is renamed to `content`, the rest is unchanged.

    Args:
        process_data: A node's process data, JSON with a member `prompts`.

    Returns:
        None if there are no prompts, or the process data are not valid.
    """
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
