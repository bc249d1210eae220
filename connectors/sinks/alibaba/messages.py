"""Content in the forms of Alibaba's conventions: chat messages with parts, retrieved documents. Pure.

Never raises: content of another form gives None, and is sent as it is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tailrace.memo import Memo

MOST: Final = 4_000_000
"""Bytes of content above which it is not repeated in another form: the span would be cut anyway."""


class _ProcessData(msgspec.Struct, frozen=True, gc=False):
    prompts: list[dict[str, Any]]


class _Answer(msgspec.Struct, frozen=True, gc=False):
    text: str


class _Asked(msgspec.Struct, frozen=True, gc=False):
    query: str


class _Segment(msgspec.Struct, frozen=True, gc=False):
    """An array as the workflow engine writes it, with the type of its items beside it."""

    value: list[dict[str, Any]]


class _Found(msgspec.Struct, frozen=True, gc=False):
    result: list[dict[str, Any]] | _Segment


_prompts: Final = msgspec.json.Decoder(_ProcessData)
_answer: Final = msgspec.json.Decoder(_Answer)
_asked: Final = msgspec.json.Decoder(_Asked)
_found: Final = msgspec.json.Decoder(_Found)
_documents: Final = msgspec.json.Decoder(list[dict[str, Any]])
_text: Final = msgspec.json.Decoder(str)
_encode: Final = msgspec.json.Encoder().encode
_ANSWER: Final = b'[{"role":"assistant","parts":[{"type":"text","content":'
_ends: Final[Memo[str, bytes]] = Memo(lambda reason: b'}],"finish_reason":' + _encode(reason) + b"}]", 64)
_ERRORS: Final = (ValueError, RecursionError)
"""What decoding raises: msgspec's errors and UnicodeEncodeError are ValueErrors."""


def unquoted(content: str) -> str:
    """Content that is a JSON string, as the text in it; any other content unchanged."""
    if not content.startswith('"'):
        return content
    try:
        return _text.decode(content)
    except _ERRORS:
        return content


def of_user(query: str) -> bytes:
    """`gen_ai.input.messages` of one question."""
    return _encode([{"role": "user", "parts": [{"type": "text", "content": query}]}])


def of_model(answer: str, finish_reason: str) -> bytes:
    """`gen_ai.output.messages` of one answer. Joined by hand: it is made for every call of a model."""
    return _ANSWER + _encode(answer) + _ends[finish_reason]


def of_prompts(process_data: str) -> bytes | None:
    """`gen_ai.input.messages` from the prompts in a node's process data.

    Args:
        process_data: JSON with a member `prompts`, a list of `{"role": …, "text": …}`.

    Returns:
        None if there are none. Members other than role and text become parts of type generic.
    """
    if len(process_data) > MOST:
        return None
    try:
        prompts = _prompts.decode(process_data).prompts
        messages = [
            {"role": str(prompt.get("role") or "user"), "parts": _parts(prompt)} for prompt in prompts
        ]
        return _encode(messages) if messages else None
    except _ERRORS:
        return None


def _parts(prompt: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for name, value in prompt.items():
        if name == "role" or not value:
            continue
        if name in ("text", "content") and isinstance(value, str):
            parts.append({"type": "text", "content": value})
        else:
            parts.append({"type": "generic", "generic_type": name, "content": value})
    return parts


def answer(outputs: str) -> str | None:
    """The text in a model node's outputs, JSON with a member `text`; None if there is none."""
    if len(outputs) > MOST:
        return None
    try:
        return _answer.decode(outputs).text or None
    except _ERRORS:
        return None


def query(inputs: str) -> str | None:
    """The query in the inputs of a retrieval, JSON with a member `query`, or a JSON string; None without."""
    try:
        return (_text.decode(inputs) if inputs.startswith('"') else _asked.decode(inputs).query) or None
    except _ERRORS:
        return None


def documents(listed: str) -> bytes | None:
    """`gen_ai.retrieval.documents` from a JSON array of documents, as Dify's retrieval has them.

    Each gets the conventions' members `id` and `score`, if it has them anywhere, and keeps the others.
    """
    if len(listed) > MOST:
        return None
    try:
        return _encode([_document(one) for one in _documents.decode(listed)])
    except _ERRORS:
        return None


def found(outputs: str) -> bytes | None:
    """The same from the outputs of a knowledge retrieval node, JSON with a member `result`."""
    if len(outputs) > MOST:
        return None
    try:
        result = _found.decode(outputs).result
        listed = result if isinstance(result, list) else result.value
        return _encode([_document(one) for one in listed])
    except _ERRORS:
        return None


def _document(one: dict[str, Any]) -> dict[str, Any]:
    inner = one.get("metadata")
    metadata: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    known: dict[str, Any] = {}
    for name in ("id", "segment_id", "document_id", "doc_id"):
        value = one.get(name) or metadata.get(name)
        if value:
            known["id"] = str(value)
            break
    score = one.get("score", metadata.get("score"))
    if isinstance(score, int | float):
        known["score"] = score
    return {**known, **{name: value for name, value in one.items() if name not in known}}
