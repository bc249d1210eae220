"""Generates Avro encoders as straight-line Python, with type checks that name the field.

An encoder takes exactly the values of the schema, or also those that applications have in their place: it
is lenient.

fastavro is not used for this: it accepts a float for a long and a bool for an int, and its errors do not
name the field. Tests compare the encoders with it.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any, Final

from tailrace.codec.varint import LENGTHS, zigzag
from tailrace.errors import EventTooLarge, InvalidEvent

_OPTION: Final = tuple(b"\2" + length for length in LENGTHS)
"""Start of a nullable string of 0 to 8,191 bytes."""
UNLIMITED: Final = 1 << 62
_ROW: Final = 4
"""Fields of a record that are looked at together: most of four nullable ones in a row are null."""

Encode = Callable[..., list[bytes]]
"""encode(record, most=UNLIMITED) -> pieces of the Avro body, to be joined.

`most` is the number of characters, or of items, that one value may have.
"""

_PYTHON: Final = {
    "string": "a string",
    "bytes": "bytes",
    "int": "an integer",
    "long": "an integer",
    "boolean": "True or False",
    "float": "a float",
    "double": "a float",
    "null": "None",
}


def _shown(value: Any) -> str:
    """The start of a plain value, for errors. The `repr` of any other may hold a key, or not return."""
    t = type(value)  # compared by identity: a metaclass may define ==
    if t is str or t is bytes:
        return f" {value[:58]!r:.57}..." if len(value) > 58 else f" {value!r}"
    if t is int:
        return f" {value}" if value.bit_length() < 200 else f" of {value.bit_length()} bits"
    return f" {value!r}" if t is float or t is bool else ""


def _name(value: Any) -> str:
    """The name of its type, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name[:100].encode("utf-8", "replace").decode()


def wrong(path: str, value: Any, expected: str) -> InvalidEvent:
    """The error for a value that does not match its field's type."""
    return InvalidEvent(path, f"is {_name(value)}{_shown(value)}, must be {expected}")


def too_long(path: str, size: int) -> EventTooLarge:
    """The error for a value that has more characters or items than an event may have bytes."""
    return EventTooLarge(path, f"has at least {size} bytes")


_HUGE: Final = 1 << 64


def whole(value: object) -> int | None:
    """A whole number as an int: 30, 30.0, Decimal("30"), a NumPy integer. None for any other value.

    A type counts by what it is, not by its methods: a mock has all of them.
    """
    kind = type(value)  # isinstance would ask the value for its class
    if kind is bool:
        return None
    try:
        if not issubclass(kind, (float, Decimal, Integral)):
            return None
        known: Any = value
        if issubclass(kind, (float, Decimal)):
            if not -_HUGE < known < _HUGE:
                return None
            number = int(known)
            return number if number == known else None
        return operator.index(known)
    except Exception:  # NaN, infinity, and types that are no numbers
        return None


def _integer(path: str, value: object, bits: int, expected: str) -> bytes:
    """The bytes of a value that is not an int. Raises `InvalidEvent` if it is not a whole number either."""
    number = whole(value)
    if number is None:
        raise wrong(path, value, "a whole number" if issubclass(type(value), float) else expected)
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise wrong(path, value, f"within {bits} bits")
    return zigzag(number)


# What is written is counted once: another thread may change a list or dict meanwhile, and a subclass may give
# out something else than it has.
def _items(value: Any, path: str, most: int) -> tuple[Any, ...]:
    """What a list or tuple holds now. Raises `EventTooLarge`."""
    t = type(value)
    if t is list and len(value) <= most:
        return tuple(value)
    base: Any = list if issubclass(t, list) else tuple
    size = base.__len__(value)
    if size > most:
        raise too_long(path, size)
    return tuple(base.__iter__(value))


def _pairs(value: Any, path: str, most: int) -> list[tuple[Any, Any]]:
    """What a dict holds now. Raises `EventTooLarge`."""
    size = dict.__len__(value)
    if size > most:
        raise too_long(path, size)
    return list(dict.items(value))


def _raw(value: bytes) -> bytes:
    """The bytes themselves, if they are of a subclass."""
    return value if type(value) is bytes else bytes.__getitem__(value, slice(None))


_OPTIONAL: Final = (b"\0", *_OPTION[1:])
"""The same where an empty text is null."""


class _Writer:
    def __init__(self, classes: Mapping[str, type[Any]], lenient: bool) -> None:
        self.classes, self.lenient = classes, lenient
        self.lines: list[str] = []
        self.named: dict[str, dict[str, Any]] = {}
        self.consts: dict[str, Any] = {
            "wrong": wrong,
            "zz": zigzag,
            "LENGTHS": LENGTHS,
            "OPTION": _OPTION,
            "utf8": str.encode,
            "too_long": too_long,
            "pack_d": struct.Struct("<d").pack,
            "pack_f": struct.Struct("<f").pack,
            "TOO_LARGE": (OverflowError, struct.error),
            "OPTIONAL": _OPTIONAL,
            "integer": _integer,
            "items": _items,
            "pairs": _pairs,
            "raw": _raw,
        }
        self._n = 0

    def fresh(self, prefix: str) -> str:
        self._n += 1
        return f"{prefix}{self._n}"

    def emit(self, d: int, line: str) -> None:
        self.lines.append("    " * d + line)

    def fields(self, fields: Sequence[Mapping[str, Any]], record: str, v: str, prefix: str, d: int) -> None:
        """Emits code that encodes the fields of a record.

        Several nullable ones in a row are mostly all null: then they are written at once.
        """
        for start in range(0, len(fields), _ROW):
            row = fields[start : start + _ROW]
            names = [f"{v}_{i}" for i in range(len(row))]
            for name, field in zip(names, row, strict=True):
                self.emit(d, f"{name} = {record}.{field['name']}")
            inside = d
            if all(isinstance(field["type"], list) for field in row):
                self.emit(d, f"if {' is None and '.join(names)} is None: w({bytes(len(row))!r})")
                self.emit(d, "else:")
                inside += 1
            for name, field in zip(names, row, strict=True):
                self.value(field["type"], name, prefix + field["name"], inside)

    def value(self, t: Any, v: str, path: str, d: int, null: bool = False) -> None:
        """Emits code that encodes a variable.

        Args:
            t: The Avro type.
            v: The variable's name.
            path: The field's dotted path, for errors.
            d: Levels of indentation.
            null: Whether the type is the second branch of a nullable union, whose index is written first.
        """
        if isinstance(t, list):
            if len(t) != 2 or t[0] != "null":
                raise ValueError(f"{path}: only unions of null and one type are supported")
            self.emit(d, f"if {v} is None: w(b'\\0')")
            self.value(t[1], v, path, d, null=True)
            return
        if isinstance(t, str) and t in self.named:
            t = self.named[t]
        kind = t if isinstance(t, str) else t["type"]
        if isinstance(t, dict) and kind in ("enum", "fixed", "record"):
            self.named[t["name"]] = t
        head = "elif" if null else "if"
        one = "b'\\2' + " if null else ""
        expected = _PYTHON.get(kind, kind) if isinstance(kind, str) else "a value"
        if kind == "string":
            known, longer = ("OPTION", "b'\\2' + zz(n)") if null else ("LENGTHS", "zz(n)")
            if null and self.lenient:
                known = "OPTIONAL"
            self.emit(d, f"{head} type({v}) is str or issubclass(type({v}), str):")
            self.emit(d + 1, f"if len({v}) > most: raise too_long({path!r}, len({v}))")
            self.emit(d + 1, f"try: x = utf8({v})")
            self.emit(
                d + 1,
                "except UnicodeEncodeError as e: "
                f"raise wrong({path!r}, {v}, 'valid Unicode (' + e.reason + ')') from None",
            )
            self.emit(d + 1, f"n = len(x); w({known}[n] if n < 8192 else {longer}); w(x)")
        elif kind == "bytes":
            self.emit(d, f"{head} issubclass(type({v}), bytes): x = raw({v}); w({one}zz(len(x))); w(x)")
        elif kind in ("int", "long"):
            bound = 31 if kind == "int" else 63
            known = "OPTION" if null else "LENGTHS"
            self.emit(d, f"{head} type({v}) is int:")
            self.emit(d + 1, f"if 0 <= {v} < 8192: w({known}[{v}])")
            self.emit(d + 1, f"elif -{1 << bound} <= {v} < {1 << bound}: w({one}zz({v}))")
            self.emit(d + 1, f"else: raise wrong({path!r}, {v}, 'within {bound + 1} bits')")
            if self.lenient:
                refusal = expected + (" or None" if null else "")
                self.emit(d, f"else: w({one}integer({path!r}, {v}, {bound + 1}, {refusal!r}))")
                return
        elif kind == "boolean":
            self.emit(d, f"{head} {v} is True: w({one}b'\\1')")
            self.emit(d, f"elif {v} is False: w({one}b'\\0')")
        elif kind in ("float", "double"):
            self.emit(d, f"{head} type({v}) is float or type({v}) is int:")
            self.emit(d + 1, f"try: w({one}pack_{kind[0]}({v}))")
            self.emit(d + 1, f"except TOO_LARGE: raise wrong({path!r}, {v}, 'a smaller number') from None")
        elif kind == "fixed":
            expected = f"{t['size']} bytes"
            self.emit(d, f"{head} type({v}) is bytes and len({v}) == {t['size']}: w({one}{v})")
        elif kind == "enum":
            table = self.fresh("E")
            self.consts[table] = {s: (b"\2" if null else b"") + zigzag(i) for i, s in enumerate(t["symbols"])}
            expected = "one of " + ", ".join(t["symbols"])
            self.emit(d, f"{head} issubclass(type({v}), str) and {v} in {table}: w({table}[{v}])")
        elif kind == "array":
            expected = "a list or tuple"
            x = self.fresh("a")
            self.emit(d, f"{head} type({v}) is tuple or issubclass(type({v}), (list, tuple)):")
            if null:
                self.emit(d + 1, "w(b'\\2')")
            held = self.fresh("h")
            self.emit(d + 1, f"{held} = {v} if type({v}) is tuple else items({v}, {path!r}, most)")
            self.emit(d + 1, f"if {held}:")
            self.emit(d + 2, f"if len({held}) > most: raise too_long({path!r}, len({held}))")
            self.emit(d + 2, f"w(zz(len({held})))")
            self.emit(d + 2, f"for {x} in {held}:")
            self.value(t["items"], x, path + "[]", d + 3)
            self.emit(d + 1, "w(b'\\0')")
            self.empty(v, d, null)
        elif kind == "map":
            expected = "a dict with string keys"
            k, x = self.fresh("k"), self.fresh("m")
            self.emit(d, f"{head} type({v}) is dict or issubclass(type({v}), dict):")
            if null:
                self.emit(d + 1, "w(b'\\2')")
            held = self.fresh("h")
            self.emit(d + 1, f"{held} = pairs({v}, {path!r}, most) if {v} else None")
            self.emit(d + 1, f"if {held}:")
            self.emit(d + 2, f"w(zz(len({held})))")
            self.emit(d + 2, f"for {k}, {x} in {held}:")
            self.value("string", k, path + " (key)", d + 3)
            self.value(t["values"], x, path + "{}", d + 3)
            self.emit(d + 1, "w(b'\\0')")
            self.empty(v, d, null)
        elif kind == "record":
            expected = f"a {t['name']}"
            f = self.fresh("f")
            cls = self.fresh("C")
            self.consts[cls] = self.classes[t["name"]]
            self.emit(d, f"{head} type({v}) is {cls}:")
            if null:
                self.emit(d + 1, "w(b'\\2')")
            self.fields(t["fields"], v, f, path + "." if path else "", d + 1)
        elif kind == "null":
            self.emit(d, f"{head} {v} is None: pass")
        else:
            raise ValueError(f"unknown Avro type {t!r}")
        self.emit(d, f"else: raise wrong({path!r}, {v}, {expected + (' or None' if null else '')!r})")

    def empty(self, v: str, d: int, null: bool) -> None:
        """Emits code that writes None as an empty collection."""
        if self.lenient and not null:
            self.emit(d, f"elif {v} is None: w(b'\\0')")


def compile_encoder(
    schema: Mapping[str, Any], classes: Mapping[str, type[Any]], *, lenient: bool = False
) -> Encode:
    """Makes an encoder for objects that have the schema's fields as attributes, such as the generated
    records.

    The encoder raises only `InvalidEvent`, with the dotted path of the first field, in schema order, whose
    value does not match its type. Strings must be encodable to UTF-8; bools are not integers; numbers must
    fit their width.

    Args:
        schema: The schema of a record.
        classes: Name -> class, of the nested records.
        lenient: Whether it also takes an empty text for null, None for an empty array or map, and a whole
            number of another type for an integer.
    """
    w = _Writer(classes, lenient)
    w.emit(0, f"def encode(r, most={UNLIMITED}):")
    w.emit(1, "out = []; w = out.append")
    w.fields(schema["fields"], "r", "v", "", 1)
    w.emit(1, "return out")
    scope = dict(w.consts)
    exec(compile("\n".join(w.lines) + "\n", f"<encoder of {schema['name']}>", "exec"), scope)
    encode: Encode = scope["encode"]
    return encode
