"""Makes decoders for Avro records.

The writer's schema is compiled to a table (`tailrace.codec.decode_plan`). One function walks the table of
any schema (`tailrace.codec.table_decoder`): it decodes the wanted fields and skips the others. Tests
compare it with fastavro.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
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
    required: Collection[str] | None = None,
) -> tuple[Decode, tuple[str, ...]]:
    """Makes a decoder for records that were written with `schema`.

    The decoder raises only `DecodeError`, for bytes that do not match the schema; its reason is
    ``truncated``, ``malformed`` or ``invalid_utf8``. Unless `prefix_only` is set, the record must end
    exactly where the data end.

    Args:
        schema: The writer's schema.
        want: Dotted paths (``"tool_name"``, ``"node_execution.node_id"``); None: all top-level fields.
            Paths that the schema does not have are left out of the results. Single fields of a null record
            are None.
        text: Whether strings are decoded, and so checked to be UTF-8. If not, they stay bytes.
        prefix_only: Whether to stop after the schema's ``header_last`` field and ignore the bytes after it.
        build: Name -> what makes a nested record or an enum: ``build[name](**fields)`` for a record that is
            wanted whole, ``build[name](symbol)`` for an enum. Default: a dict, and the symbol.
        required: If given, an empty text is read as null, and so is a fixed value of zeros (an OpenTelemetry
            id that is none). These paths, and what is inside arrays and maps, are read as they are.

    Returns:
        The decoder, and the paths of the values that it returns, in schema order.
    """
    planner = Planner(want, text, build or {}, required)
    steps = planner.top(schema, schema.get("header_last") if prefix_only else None)
    return functools.partial(table_decoder.read, steps, prefix_only), tuple(planner.paths)


def record_decoder_for(
    schema: Mapping[str, Any],
    want: Iterable[str],
    into: Callable[..., R],
    *,
    build: Mapping[str, Any] | None = None,
    required: Collection[str] | None = None,
) -> Callable[[bytes, int], R]:
    """Makes a decoder that returns ``into(**{field: value})`` for the wanted top-level fields.

    Strings are decoded. It takes a third of the time of a decoder of `decoder_for` followed by such a call.

    Args:
        schema: The writer's schema.
        want: Names of top-level fields.
        into: The record's class, or anything that is called with the values by name.
        build: As for `decoder_for`.
        required: As for `decoder_for`.
    """
    planner = Planner(want, True, build or {}, required)
    steps = planner.top(schema, None)
    return functools.partial(table_decoder.read_into, steps, RecordBuilder(into, planner.paths))
