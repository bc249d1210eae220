"""Avro decoders as generated straight-line Python: slices only what is wanted, steps over the rest. Where the
package is compiled, the same by walking a table (`tailrace.codec.table_decoder`), which is then four times as
fast.

`compile_decoder` turns a writer schema and the dotted paths a reader wants into a function from bytes to a
tuple. Two functions are generated from the same walk: a speculative one, which takes short strings to have
one-byte lengths and runs off the end (IndexError) where that is wrong, and a general one, which decodes
everything. fastavro is the oracle in the tests."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from tailrace.codec import table_decoder as walk
from tailrace.codec.decode_plan import Planner
from tailrace.codec.names import PRIMITIVE, NamedTypes, record_branch
from tailrace.codec.record_builder import RecordBuilder
from tailrace.codec.refusal import MALFORMED, refusal
from tailrace.codec.varint import block, size, varint

Decode = Callable[[bytes, int], tuple[Any, ...]]
"""decode(data, start) -> the wanted values in schema order."""

R = TypeVar("R")

_FAR: Final = 1 << 40
STEP: Final = tuple((1 + (n >> 1)) if n < 128 and not n & 1 else _FAR for n in range(256))
"""First byte of a string -> bytes of length and string; out of range unless it is a one-byte, non-negative
length."""

_M8: Final = 0x8080808080808080
_HI: Final = 0x0080808080808080
COMPILED: Final = not str(walk.__file__).endswith(".py")
"""Whether walking a table is the fast way; else it is code that is generated."""


class _Writer:
    """Emits the body of one decode function."""

    def __init__(self, want: frozenset[str] | None, fast: bool, text: bool, build: Mapping[str, Any]) -> None:
        self.lines: list[str] = []
        self.names = NamedTypes()
        self.want, self.fast, self.text, self.build = want, fast, text, build
        self.consts: dict[str, Any] = {}
        self.paths: list[str] = []
        self.results: list[str] = []
        self._n = 0

    def fresh(self, prefix: str = "v") -> str:
        self._n += 1
        return f"{prefix}{self._n}"

    def const(self, value: Any) -> str:
        name = self.fresh("K")
        self.consts[name] = value
        return name

    def emit(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    # -- one value; v is the variable that gets it, or None to step over it
    def value(self, t: Any, v: str | None, d: int, content: bool = False) -> None:
        if isinstance(t, list):
            return self.union(t, v, d, content)
        if isinstance(t, str) and t not in PRIMITIVE:
            t = self.names.find(t)
        kind = t if isinstance(t, str) else t["type"]
        if isinstance(kind, (dict, list)):
            return self.value(kind, v, d, content)
        if isinstance(t, dict) and kind in ("enum", "fixed", "record"):
            self.names.learn(t)
        if kind == "null":
            if v:
                self.emit(d, f"{v} = None")
        elif kind == "boolean":
            if v:
                self.emit(d, f"{v} = BOOL[b[p]]")
            self.emit(d, "p += 1")
        elif kind in ("int", "long"):
            self.integer(v, d)
        elif kind in ("float", "double"):
            code, n = ("unpack_f", 4) if kind == "float" else ("unpack_d", 8)
            if v:
                self.emit(d, f"({v},) = {code}(b, p)")
            self.emit(d, f"p += {n}")
        elif kind in ("string", "bytes"):
            self.string(v, d, content, self.text and kind == "string")
        elif kind == "fixed":
            if v:
                self.emit(d, f"{v} = b[p:p + {t['size']}]")
            self.emit(d, f"p += {t['size']}")
        elif kind == "enum":
            if v:
                symbols = self.const(_enum_table(t, self.build))
                self.emit(
                    d,
                    f"{v} = {symbols}[b[p]]"
                    if len(t["symbols"]) <= 64
                    else f"n, p = varint(b, p); {v} = {symbols}[n * 2]",
                )
                if len(t["symbols"]) <= 64:
                    self.emit(d, "p += 1")
            else:
                self.integer(None, d)
        elif kind == "array":
            self.sequence(v, d, lambda x, e: self.value(t["items"], x, e))
        elif kind == "map":
            self.mapping(v, d, t["values"])
        elif kind == "record":
            self.record(t, v, d)
        else:
            raise ValueError(f"unknown Avro type {t!r}")

    def integer(self, v: str | None, d: int) -> None:
        if not self.fast:
            if v is None:
                self.emit(d, "if b[p] < 128: p += 1")
                self.emit(d, "else: _, p = varint(b, p)")
            else:
                self.emit(d, f"{v} = b[p]")
                self.emit(d, f"if {v} < 128: p += 1; {v} = ({v} >> 1) ^ -({v} & 1)")
                self.emit(d, f"else: {v}, p = varint(b, p)")
            return
        # one and two bytes inline; a microsecond time has eight, and is read as one word
        self.emit(d, "n = b[p]")
        self.emit(d, "if n < 128: p += 1" + (f"; {v} = (n >> 1) ^ -(n & 1)" if v else ""))
        self.emit(
            d,
            "elif b[p + 1] < 128: "
            + (f"n = n & 127 | b[p + 1] << 7; p += 2; {v} = (n >> 1) ^ -(n & 1)" if v else "p += 2"),
        )
        self.emit(d, "else:")
        self.emit(d + 1, "n, = word(b, p)")
        self.emit(d + 1, f"if n & {_M8} == {_HI}:")
        if v:
            self.emit(d + 2, f"n = (n & {0x007F007F007F007F}) | (n & {0x7F007F007F007F00}) >> 1")
            self.emit(d + 2, f"n = (n & {0x00003FFF00003FFF}) | (n & {0x3FFF00003FFF0000}) >> 2")
            self.emit(
                d + 2, f"n = (n & {0x0FFFFFFF}) | (n & {0x0FFFFFFF00000000}) >> 4; {v} = (n >> 1) ^ -(n & 1)"
            )
        self.emit(d + 2, "p += 8")
        self.emit(d + 1, f"else: {v or '_'}, p = varint(b, p)")

    def string(self, v: str | None, d: int, long: bool, text: bool) -> None:
        tail = ".decode()" if text else ""
        if self.fast and not long:
            self.emit(d, f"{v} = b[p + 1:(p := p + STEP[b[p]])]{tail}" if v else "p += STEP[b[p]]")
            return
        self.emit(d, "n = b[p]; p += 1")
        self.emit(d, "if n < 128:")
        self.emit(d + 1, "if n & 1: raise ValueError('negative length')")
        self.emit(d + 1, "q = p + (n >> 1)")
        if self.fast:
            self.emit(d, "elif b[p] < 128 and not n & 1: q = p + 1 + (n >> 1 & 63 | b[p] << 6); p += 1")
        self.emit(d, "else: n, p = size(b, p - 1); q = p + n")
        if v and text and not self.fast:  # or half a character at the end would be taken for bad UTF-8
            self.emit(d, "if q > len(b): raise IndexError")
        self.emit(d, f"{v} = b[p:q]{tail}; p = q" if v else "p = q")

    def union(self, branches: list[Any], v: str | None, d: int, content: bool) -> None:
        if len(branches) > 63:
            raise ValueError("unions of more than 63 branches are not supported")
        if (
            branches == ["null", "string"] and self.fast and not content
        ):  # most fields: branch and length in one go
            text = ".decode()" if self.text else ""
            self.emit(d, "n = b[p]")
            self.emit(d, "if not n: p += 1" + (f"; {v} = None" if v else ""))
            self.emit(
                d,
                f"elif n == 2: {v} = b[p + 2:(p := p + 1 + STEP[b[p + 1]])]{text}"
                if v
                else "elif n == 2: p += 1 + STEP[b[p + 1]]",
            )
        elif branches[0] == "null" and len(branches) == 2:
            self.emit(d, "if not b[p]: p += 1" + (f"; {v} = None" if v else ""))
            self.emit(d, "elif b[p] == 2:")
            self.emit(d + 1, "p += 1")
            self.value(branches[1], v, d + 1, content)
        else:
            self.emit(d, "n = b[p]; p += 1")
            for i, branch in enumerate(branches):
                self.emit(d, f"{'el' if i else ''}if n == {i * 2}:")
                before = len(self.lines)
                self.value(branch, v, d + 1, content)
                if len(self.lines) == before:
                    self.emit(d + 1, "pass")
        self.emit(d, "else: raise ValueError('union branch')")

    def sequence(self, v: str | None, d: int, item: Callable[[str | None, int], None]) -> None:
        if v:
            self.emit(d, f"{v} = []")
        self.emit(d, "while b[p]:")
        i, x = self.fresh("i"), self.fresh("x") if v else None
        self.emit(d + 1, f"{i}, p = block(b, p)")
        self.emit(d + 1, f"for {i} in range({i}):")
        item(x, d + 2)
        if v:
            self.emit(d + 2, f"{v}.append({x})")
        self.emit(d, "p += 1")

    def mapping(self, v: str | None, d: int, values: Any) -> None:
        if v:
            self.emit(d, f"{v} = {{}}")
        self.emit(d, "while b[p]:")
        i, k, x = self.fresh("i"), self.fresh("k") if v else None, self.fresh("x") if v else None
        self.emit(d + 1, f"{i}, p = block(b, p)")
        self.emit(d + 1, f"for {i} in range({i}):")
        self.string(k, d + 2, False, self.text)
        self.value(values, x, d + 2)
        if v:
            self.emit(d + 2, f"{v}[{k}] = {x}")
        self.emit(d, "p += 1")

    def record(self, t: dict[str, Any], v: str | None, d: int) -> None:
        """A nested record as one value: what build[name] makes of its fields, else a dict."""
        known = self.build.get(t["name"].rsplit(".", 1)[-1])
        pairs: list[str] = []
        before = len(self.lines)
        for field in t["fields"]:
            name = field["name"]
            keep = v is not None and (known is None or name in known.__struct_fields__)
            x = self.fresh() if keep else None
            self.value(field["type"], x, d, bool(field.get("content")))
            if x:
                pairs.append(f"{name}={x}")
        if v:
            self.emit(d, f"{v} = {self.const(known) if known else 'dict'}({', '.join(pairs)})")
        elif len(self.lines) == before:
            self.emit(d, "pass")

    # -- the top: fields by dotted path
    def fields(self, t: dict[str, Any], prefix: str, d: int, last: str | None) -> bool:
        """Emits the fields of a record whose wanted ones become results. True if `last` was reached."""
        self.names.learn(t)
        for field in t["fields"]:
            name, kind = field["name"], field["type"]
            path = prefix + name
            if self.want is None or path in self.want:
                v = self.fresh()
                self.value(kind, v, d, bool(field.get("content")))
                self.paths.append(path)
                self.results.append(v)
            elif any(w.startswith(path + ".") for w in self.want) and (inner := self.names.nested(kind)):
                self.inside(inner, record_branch(kind), path, d)
            else:
                self.value(kind, None, d, bool(field.get("content")))
            if name == last and not prefix:
                return True
        return False

    def inside(self, inner: dict[str, Any], branch: int | None, path: str, d: int) -> None:
        """A nested record of which single fields are wanted. branch: its number in a union with null, or
        None: in none."""
        if branch is None:
            self.fields(inner, path + ".", d, None)
            return
        at = len(self.lines)
        first = len(self.results)
        self.emit(d, f"if b[p] == {2 * branch}:")
        self.emit(d + 1, "p += 1")
        self.fields(inner, path + ".", d + 1, None)
        self.emit(d, f"elif b[p] != {2 - 2 * branch}: raise ValueError('union branch')")
        self.emit(d, "else: p += 1")
        if len(self.results) > first:
            self.lines.insert(at, "    " * d + " = ".join(self.results[first:]) + " = None")


def _enum_table(t: dict[str, Any], build: Mapping[str, Any]) -> Any:
    """First byte -> what the symbol becomes. What is no symbol's byte raises ValueError, as everything
    malformed does."""
    make = build.get(t["name"].rsplit(".", 1)[-1], str)
    return _Symbols({i * 2: make(s) for i, s in enumerate(t["symbols"])})


class _Symbols(dict[int, Any]):
    def __missing__(self, key: int) -> Any:
        raise ValueError(f"{key} is no symbol's byte")


class _Booleans(dict[int, bool]):
    def __missing__(self, key: int) -> bool:
        raise ValueError(f"{key} is neither true nor false")


def source(
    schema: Mapping[str, Any],
    want: Iterable[str] | None,
    *,
    fast: bool,
    text: bool,
    prefix_only: bool,
    build: Mapping[str, Any],
    into: Callable[..., Any] | None = None,
) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The generated function's source, its constants and the paths of its results."""
    w = _Writer(None if want is None else frozenset(want), fast, text, build)
    w.emit(0, "def decode(b, p):")
    w.fields(dict(schema), "", 1, schema.get("header_last") if prefix_only else None)
    w.emit(1, "if p > len(b): raise IndexError" if prefix_only else "if p != len(b): raise IndexError")
    if into is None:
        w.emit(1, f"return ({''.join(r + ', ' for r in w.results)})")
    else:
        named = ", ".join(f"{path}={r}" for path, r in zip(w.paths, w.results, strict=True))
        w.emit(1, f"return {w.const(into)}({named})")
    return "\n".join(w.lines) + "\n", w.consts, tuple(w.paths)


def compile_both(
    schema: Mapping[str, Any],
    want: Iterable[str] | None = None,
    *,
    text: bool = False,
    prefix_only: bool = False,
    build: Mapping[str, Any] | None = None,
    into: Callable[..., Any] | None = None,
) -> tuple[Callable[[bytes, int], Any], Callable[[bytes, int], Any], tuple[str, ...]]:
    """The speculative and the general function behind `compile_decoder`, which raise whatever they run
    into."""
    wanted = None if want is None else frozenset(want)
    env = {
        "STEP": STEP,
        "BOOL": _Booleans({0: False, 1: True}),
        "varint": varint,
        "size": size,
        "block": block,
        "word": struct.Struct("<Q").unpack_from,
        "unpack_f": struct.Struct("<f").unpack_from,
        "unpack_d": struct.Struct("<d").unpack_from,
    }
    functions: list[Callable[[bytes, int], Any]] = []
    paths: tuple[str, ...] = ()
    for fast in (True, False):
        code, consts, paths = source(
            schema, wanted, fast=fast, text=text, prefix_only=prefix_only, build=build or {}, into=into
        )
        scope: dict[str, Any] = {**env, **consts}
        exec(compile(code, f"<decoder of {schema['name']}>", "exec"), scope)
        functions.append(scope["decode"])
    return functions[0], functions[1], paths


def walker(
    schema: Mapping[str, Any],
    want: Iterable[str] | None = None,
    *,
    text: bool = False,
    prefix_only: bool = False,
    build: Mapping[str, Any] | None = None,
) -> tuple[Decode, tuple[str, ...]]:
    """The walking decoder behind `compile_decoder`, which raises whatever it runs into."""
    planner = Planner(want, text, build or {})
    steps = planner.top(schema, schema.get("header_last") if prefix_only else None)
    return functools.partial(walk.decode, steps, prefix_only), tuple(planner.paths)


def compile_decoder(
    schema: Mapping[str, Any],
    want: Iterable[str] | None = None,
    *,
    text: bool = False,
    prefix_only: bool = False,
    build: Mapping[str, Any] | None = None,
) -> tuple[Decode, tuple[str, ...]]:
    """A decoder of `schema` and the paths of the values it returns, in schema order.

    want: dotted paths (``"tool_name"``, ``"node_execution.node_id"``); None for all top-level fields. A path
    that the schema lacks is simply not among the results. Single fields of a null record are None; nested
    records wanted whole are what ``build[name](**fields)`` makes, else dicts; enums what
    ``build[name](symbol)`` makes, else their symbols, in either mode. text: strings are decoded (and so
    checked to be UTF-8), else they stay bytes. prefix_only: stops after the schema's ``header_last`` field;
    what follows is not looked at.

    The decoder raises `DecodeError` (reason ``truncated``, ``malformed`` or ``invalid_utf8``) for bytes that
    do not fit, and is total: no other exception. Unless prefix_only, the record must end exactly where the
    data ends."""
    if COMPILED:
        planner = Planner(want, text, build or {})
        steps = planner.top(schema, schema.get("header_last") if prefix_only else None)
        return functools.partial(walk.read, steps, prefix_only), tuple(planner.paths)
    quick, general, paths = compile_both(schema, want, text=text, prefix_only=prefix_only, build=build)
    return _total(quick, general), paths


def compile_builder(
    schema: Mapping[str, Any],
    want: Iterable[str],
    into: Callable[..., R],
    *,
    build: Mapping[str, Any] | None = None,
) -> Callable[[bytes, int], R]:
    """A decoder, with text decoded, that gives ``into(**{field: value})`` of the wanted top-level fields:
    what `compile_decoder` and a call would, in a third of the time, as no tuple or dict is made. Raises as
    that."""
    if COMPILED:
        planner = Planner(want, True, build or {})
        steps = planner.top(schema, None)
        return functools.partial(walk.read_into, steps, RecordBuilder(into, planner.paths))
    quick, general, _ = compile_both(schema, want, text=True, build=build, into=into)
    return _total(quick, general)


def _total(quick: Callable[[bytes, int], R], general: Callable[[bytes, int], R]) -> Callable[[bytes, int], R]:
    """The speculating function, then the general one; malformed bytes raise `DecodeError` and nothing
    else."""

    def decode(b: bytes, p: int = 0) -> R:
        try:
            return quick(b, p)
        except MALFORMED:
            pass
        try:
            return general(b, p)
        except MALFORMED as e:
            raise refusal(e, len(b)) from None

    return decode
