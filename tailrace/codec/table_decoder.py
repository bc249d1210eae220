"""Walks an Avro record along a table of its schema, which `tailrace.codec.decode_plan` makes.

The code is the same for all schemas, so it can be compiled by mypyc. Callers use `tailrace.codec.decoder`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tailrace.codec.record_builder import RecordBuilder
from tailrace.codec.varint import block, size, varint
from tailrace.errors import DecodeError

NULL: Final = 0
BOOLEAN: Final = 1
INTEGER: Final = 2
FLOAT: Final = 3
DOUBLE: Final = 4
STRING: Final = 5
TEXT: Final = 6
"""A string that is decoded and checked to be UTF-8."""
FIXED: Final = 7
ENUM: Final = 8
ARRAY: Final = 9
MAP: Final = 10
RECORD: Final = 11
UNION: Final = 12
INSIDE: Final = 13
"""A record of which only single fields are wanted."""

_float: Final = struct.Struct("<f").unpack_from
_double: Final = struct.Struct("<d").unpack_from
_NOTHING: Final[list[Any]] = []
_MALFORMED: Final = (IndexError, ValueError, OverflowError, struct.error)
"""Exceptions that the walk raises for bytes that do not match the schema."""


class Step:
    """One value of the schema."""

    __slots__ = (
        "builder",
        "empty_is_null",
        "kind",
        "null",
        "nullable",
        "results",
        "size",
        "steps",
        "symbols",
        "want",
        "zeros",
    )

    def __init__(self, kind: int, want: bool) -> None:
        self.kind, self.want = kind, want
        self.nullable = False
        """Whether it is a union of null and this type."""
        self.null = 0
        """The byte for null: 0, or 2 if null is the second branch."""
        self.size = 0
        """Size in bytes of a fixed, boolean, float or double."""
        self.empty_is_null = False
        """Whether an empty text, or a fixed value equal to `zeros`, is read as null."""
        self.zeros = b""
        self.steps: list[Step] = []
        """Items of an array, key and values of a map, branches of a union, fields of a record."""
        self.symbols: list[Any] = []
        """The decoded values of an enum's symbols."""
        self.builder: RecordBuilder | None = None
        """Makes the record, if it is wanted whole."""
        self.results = 0
        """Number of results of an `INSIDE` step."""


class TableDecoder:
    """A position in a record's bytes."""

    __slots__ = ("b", "p")

    def __init__(self, b: bytes, p: int) -> None:
        self.b, self.p = b, p

    def fields(self, steps: list[Step], out: list[Any]) -> None:
        """Reads the fields of a record and appends the wanted ones to `out`. Raises those in `_MALFORMED`."""
        b, p = self.b, self.p
        for step in steps:
            kind = step.kind
            if step.nullable:
                c = b[p]
                p += 1
                if c == step.null:
                    if kind == INSIDE:
                        for _ in range(step.results):
                            out.append(None)
                    elif step.want:
                        out.append(None)
                    continue
                if c != 2 - step.null:
                    raise ValueError("union branch")
            if kind in (STRING, TEXT):
                n = b[p]
                p += 1
                if n < 128:
                    if n & 1:
                        raise ValueError("negative length")
                    n >>= 1
                else:
                    n, p = size(b, p - 1)
                q = p + n
                if q > len(b):
                    raise IndexError
                if step.want:
                    if p == q and step.empty_is_null:
                        out.append(None)
                    elif kind == TEXT:
                        out.append(b[p:q].decode())
                    else:
                        out.append(b[p:q])
                p = q
            elif kind == INTEGER:
                n = b[p]
                if n < 128:
                    p += 1
                    if step.want:
                        out.append((n >> 1) ^ -(n & 1))
                else:
                    self.p = p
                    n = self._integer()
                    p = self.p
                    if step.want:
                        out.append(n)
            else:
                self.p = p
                if kind == INSIDE:
                    self.fields(step.steps, out)
                elif step.want:
                    out.append(self.value(step) if kind == UNION else self._bare(step))
                elif kind == UNION:
                    self.skip(step)
                else:
                    self._skip_bare(step)
                p = self.p
        self.p = p

    def _union(self, step: Step) -> Step | None:
        """Reads the index of a union and returns the branch; None for the null of a nullable type."""
        if step.nullable:
            c = self.b[self.p]
            self.p += 1
            if c == step.null:
                return None
            if c != 2 - step.null:
                raise ValueError("union branch")
        elif step.kind == UNION:
            c = self.b[self.p]
            self.p += 1
            if c & 1 or c >> 1 >= len(step.steps):
                raise ValueError("union branch")
            return step.steps[c >> 1]
        return step

    def _integer(self) -> int:
        n, self.p = varint(self.b, self.p)
        return n

    def _length(self) -> int:
        """Reads the length of a string or bytes. Raises IndexError if the data end before it does."""
        n, self.p = size(self.b, self.p)
        if self.p + n > len(self.b):
            raise IndexError
        return n

    def value(self, whole: Step) -> Any:
        """Reads the next value."""
        step = self._union(whole)
        return None if step is None else self._bare(step)

    def _bare(self, step: Step) -> Any:
        """Reads a value whose union branch is already known."""
        kind, b = step.kind, self.b
        if kind in (STRING, TEXT):
            n = self._length()
            p = self.p
            self.p = p + n
            if n == 0 and step.empty_is_null:
                return None
            return b[p : p + n].decode() if kind == TEXT else b[p : p + n]
        if kind == INTEGER:
            return self._integer()
        if kind == NULL:
            return None
        if kind == BOOLEAN:
            n = b[self.p]
            if n > 1:
                raise ValueError("neither true nor false")
            self.p += 1
            return n == 1
        if kind == FIXED:
            p = self.p
            self.p = p + step.size
            if self.p > len(b):
                raise IndexError
            fixed = b[p : self.p]
            return None if step.empty_is_null and fixed == step.zeros else fixed
        if kind == ENUM:
            return self._symbol(step)
        if kind == RECORD:
            values: list[Any] = []
            self.fields(step.steps, values)
            assert step.builder is not None
            return step.builder.make(values)
        if kind == ARRAY:
            items: list[Any] = []
            inner = step.steps[0]
            while b[self.p]:
                n, self.p = block(b, self.p)
                for _ in range(n):
                    items.append(self.value(inner))
            self.p += 1
            return items
        if kind == MAP:
            return self._map(step)
        if kind == UNION:
            return self.value(step)
        (number,) = _float(b, self.p) if kind == FLOAT else _double(b, self.p)
        self.p += 4 if kind == FLOAT else 8
        return number

    def _symbol(self, step: Step) -> Any:
        if len(step.symbols) > 64:
            n = self._integer()
            if not 0 <= n < len(step.symbols):
                raise ValueError("enum index out of range")
            return step.symbols[n]
        n = self.b[self.p]
        if n & 1 or n >> 1 >= len(step.symbols):
            raise ValueError("enum index out of range")
        self.p += 1
        return step.symbols[n >> 1]

    def _map(self, step: Step) -> dict[Any, Any]:
        entries: dict[Any, Any] = {}
        key, inner = step.steps[0], step.steps[1]
        while self.b[self.p]:
            n, self.p = block(self.b, self.p)
            for _ in range(n):
                name = self.value(key)
                entries[name] = self.value(inner)
        self.p += 1
        return entries

    def skip(self, whole: Step) -> None:
        """Skips the next value."""
        step = self._union(whole)
        if step is not None:
            self._skip_bare(step)

    def _skip_bare(self, step: Step) -> None:
        kind = step.kind
        if kind in (STRING, TEXT):
            n = self._length()
            self.p += n
        elif kind in (INTEGER, ENUM):
            self._integer()
        elif kind == RECORD:
            self.fields(step.steps, _NOTHING)
        elif kind in (ARRAY, MAP):
            while self.b[self.p]:
                n, self.p = block(self.b, self.p)
                for _ in range(n):
                    for inner in step.steps:
                        self.skip(inner)
            self.p += 1
        elif kind == UNION:
            self.skip(step)
        elif kind != NULL:
            self.p += step.size


def _walk(steps: list[Step], prefix_only: bool, b: bytes, p: int) -> list[Any]:
    """The wanted values of the record at `p`. Raises only `DecodeError`.

    The record must end where the data end, unless `prefix_only` is set.
    """
    walk, out = TableDecoder(b, p), []  # type: TableDecoder, list[Any]
    try:
        walk.fields(steps, out)
        if walk.p > len(b) if prefix_only else walk.p != len(b):
            raise IndexError
    except _MALFORMED as e:
        raise _refusal(e, len(b)) from None
    return out


def _refusal(error: Exception, size: int) -> DecodeError:
    """The `DecodeError` for one of the exceptions in `_MALFORMED`; size: bytes of the data."""
    if isinstance(error, IndexError):
        return DecodeError("truncated", f"{size} bytes are not exactly one record")
    if isinstance(error, UnicodeDecodeError):
        return DecodeError("invalid_utf8", str(error))
    return DecodeError("malformed", str(error))


def read(steps: list[Step], prefix_only: bool, b: bytes, p: int = 0) -> tuple[Any, ...]:
    """The wanted values of the record at `p`. Raises only `DecodeError`."""
    return tuple(_walk(steps, prefix_only, b, p))


def read_into(steps: list[Step], builder: RecordBuilder, b: bytes, p: int = 0) -> Any:
    """The record that `builder` makes. Raises `DecodeError`, and what `builder` raises."""
    return builder.make(_walk(steps, False, b, p))
