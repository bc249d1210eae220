"""Decoders of Avro records.

The writer's schema becomes a table (`tailrace.codec.decode_plan`), and one function walks the table of any
schema (`tailrace.codec.table_decoder`): it slices what is wanted and steps over the rest. fastavro is the
oracle in the tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from tailrace.codec import table_decoder
from tailrace.codec.decode_plan import Planner
from tailrace.codec.record_builder import RecordBuilder

Decode = Callable[[bytes, int], tuple[Any, ...]]
"""decode(data, start) -> the wanted values in schema order."""

R = TypeVar("R")


def decoder_for(
    schema: Mapping[str, Any],
    want: Iterable[str] | None = None,
    *,
    text: bool = False,
    prefix_only: bool = False,
    build: Mapping[str, Any] | None = None,
) -> tuple[Decode, tuple[str, ...]]:
    """A decoder of what `schema` wrote, and the paths of the values that it returns, in schema order.

    The decoder raises `DecodeError` (reason ``truncated``, ``malformed`` or ``invalid_utf8``) for bytes that
    do not fit, and nothing else. Unless prefix_only, the record must end exactly where the data ends.

    Args:
        schema: The writer's schema.
        want: Dotted paths (``"tool_name"``, ``"node_execution.node_id"``); None for all top-level fields. A
            path that the schema lacks is not among the results. Single fields of a null record are None.
        text: Strings are decoded, and so checked to be UTF-8; else they stay bytes.
        prefix_only: Stop after the schema's ``header_last`` field; what follows is not looked at.
        build: By name, what makes nested records and enums. A record that is wanted whole is
            ``build[name](**fields)``, else a dict; an enum is ``build[name](symbol)``, else its symbol.
    """
    planner = Planner(want, text, build or {})
    steps = planner.top(schema, schema.get("header_last") if prefix_only else None)
    return functools.partial(table_decoder.read, steps, prefix_only), tuple(planner.paths)


def record_decoder_for(
    schema: Mapping[str, Any],
    want: Iterable[str],
    into: Callable[..., R],
    *,
    build: Mapping[str, Any] | None = None,
) -> Callable[[bytes, int], R]:
    """A decoder, with text decoded, that gives ``into(**{field: value})`` of the wanted top-level fields. It
    does what a decoder of `decoder_for` and such a call do, in a third of the time.

    Args:
        schema: The writer's schema.
        want: Names of top-level fields.
        into: The record's class, or anything that is called with the values by name.
        build: As for `decoder_for`.
    """
    planner = Planner(want, True, build or {})
    steps = planner.top(schema, None)
    return functools.partial(table_decoder.read_into, steps, RecordBuilder(into, planner.paths))
