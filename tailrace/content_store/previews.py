"""What a field has in its place when its content is in the store: enough for a reader without it. Pure."""

from __future__ import annotations

from typing import Final

from tailrace.cutting import cut_json, cut_text

KEY: Final = "tailrace.content"
BYTES: Final = 1024
"""Bytes of content in a preview."""
LEAST: Final = 4096
"""Bytes of a field that never goes to the store: its preview would save little."""
_START: Final = 8 * BYTES


def of_json(text: str, hash: str, size: int) -> str:
    """An object of JSON: what is stored, and the start of it with its longest strings cut.

    Args:
        text: the field's JSON text.
        hash: its name in the store.
        size: its bytes.
    """
    start = cut_json(text[:_START], BYTES)
    return f'{{"{KEY}":{{"hash":"{hash}","bytes":{size}}},"preview":{"null" if start is None else start}}}'


def of_text(text: str, hash: str, size: int) -> str:
    """The start of a text, and a line that says what is stored.

    Args:
        text: the field's text.
        hash: its name in the store.
        size: its bytes.
    """
    return f"{cut_text(text[:_START], BYTES)}\n[{KEY}: {size} bytes, {hash}]"
