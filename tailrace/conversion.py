"""Turns any Python value into plain JSON data: bounded, and without calling the value's own methods. Pure.

Known kinds become their fields, items or text. Any other object becomes the name of its type: its `repr` may
hold a key, take for ever or raise. Nothing is consumed: an iterator, a generator or a file is known by its
type only. Libraries are never imported: a value can only be of a library that is imported already.
"""

from __future__ import annotations

import array
import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import gc
import ipaddress
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from tailrace.cutting import DEPTH, MARK
from tailrace.plain_data import SCALARS
from tailrace.records import ChangeKind, ContentChange

CIRCLE: Final = "(circular)"
"""Stands for a value that contains itself."""
DEEP: Final = "(nested too deeply)"
NODES: Final = 500_000
"""Most values of a field that is converted, if the rest may be left out: they take half a second."""
_NAME_LENGTH: Final = 200
_BITS: Final = 2_000
"""Bits of the largest integer that is written in digits. Python refuses to write more than some thousand."""
_ZONED: Final = (datetime.datetime, datetime.time)
_MARK: Final = MARK.decode()
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_checked: Final = msgspec.json.Decoder(msgspec.Raw).decode


class JsonText(str):
    """A string that holds JSON text. Publishing validates it once and sends it unchanged."""

    __slots__ = ()


# -- looking at objects without calling their code
_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_class_dict: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__
_qualname: Final[Callable[[type], Any]] = type.__dict__["__qualname__"].__get__
_module: Final[Callable[[type], Any]] = type.__dict__["__module__"].__get__
_MISSING: Final = object()


def type_name(t: type) -> str:
    """The name of a class, with its module unless that is builtins."""
    module, name = _module(t), _qualname(t)
    text = str.__str__(name) if issubclass(type(name), str) else "object"
    if type(module) is str and module != "builtins":
        text = f"{module}.{text}"
    return sound(text[:_NAME_LENGTH])


def of_class(t: type, name: str) -> Any:
    """An attribute of a class or its bases, as it is written there; None if there is none."""
    for base in _mro(t):
        found = _class_dict(base).get(name, _MISSING)
        if found is not _MISSING:
            return found
    return None


def _instance_dict(value: object) -> dict[str, Any]:
    for base in _mro(type(value)):
        found: Any = _class_dict(base).get("__dict__")
        if type(found) in (types.GetSetDescriptorType, types.MemberDescriptorType):
            held = found.__get__(value)
            return held if type(held) is dict else {}
        if found is not None:  # a property of that name
            break
    return {}


def _attribute(value: object, name: str) -> Any:
    """An instance's own attribute, or a slot; `_MISSING` if it is neither. Properties are not called."""
    slot = of_class(type(value), name)
    if type(slot) is types.MemberDescriptorType:
        try:
            return slot.__get__(value)
        except AttributeError:  # not set
            return _MISSING
    return _instance_dict(value).get(name, _MISSING)


def sound(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot represent: U+FFFD is in their place."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def as_text(data: Any) -> str:
    """Converted data as text: a string as it is, everything else as JSON."""
    text = _encode(data).decode()
    return _decode(text) if text.startswith('"') else text


class TooLarge(Exception):
    """A value does not fit, and is not to be cut."""


class Conversion:
    """Converts the values of one field.

    Args:
        room: bytes that the result may have, if each of its parts is as short as it can be.
        cut: whether what exceeds that is left out; so is what exceeds `NODES`. If not, `of` raises.
    """

    def __init__(self, room: int, cut: bool = True) -> None:
        self._most = self.room = room
        self._may_cut = cut
        self._nodes = NODES if cut else sys.maxsize
        self.converted = 0
        """Values that JSON cannot represent and that became something else."""
        self.lost = 0
        """Bytes that were left out, as far as they are known; 0: nothing was."""
        self._open: set[int] = set()
        self._handlers: dict[type, Handler | None] = {}
        self._libraries: dict[type, Handler] | None = None

    def of(self, value: Any, depth: int = DEPTH) -> Any:
        """The value as data that the JSON encoder writes.

        Raises:
            TooLarge: it does not fit, and is not to be cut.
        """
        t = type(value)
        self._nodes -= 1
        if t is str:
            return self._text(value)
        if t is int:
            return self._integer(value)
        try:
            if t not in SCALARS:
                return self._other(value, t, depth)
            self.room -= 1
            if t in _ZONED and value.tzinfo is not None:
                _encode(value)  # its time zone may be of a class that raises
            return value
        except TooLarge:
            raise
        except Exception:  # e.g. changed by another thread while it is read, or a class of its own kind
            return self._name(t)

    def lose(self, size: int) -> None:
        """Notes that bytes are left out."""
        if not self._may_cut:
            raise TooLarge
        self.lost += size

    def fits(self, size: int, least: int = 2) -> int:
        """How many of `size` items fit, of which each has at least `least` bytes."""
        found = min(max(self.room, 0) // least, max(self._nodes, 0))
        if size > found:
            self.lose(least * (size - found))
        return min(size, found)

    def changes(self, field: str) -> list[ContentChange]:
        """What was changed, as the event of `field` has it."""
        made = []
        if self.converted:
            made.append(ContentChange(field=field, change=ChangeKind.CONVERTED, count=self.converted))
        if self.lost:
            size = self._most - self.room + self.lost
            made.append(ContentChange(field=field, change=ChangeKind.CUT, bytes=size))
        return made

    # -- stand-ins
    def _stand_in(self, text: str) -> str:
        self.converted += 1
        return self._text(text)

    def _name(self, t: type) -> str:
        return self._stand_in(type_name(t))

    # -- scalars
    def _text(self, text: str) -> str:
        self.room -= 2
        room = max(self.room, 0)
        if len(text) > room:
            self.lose(len(text) - room)
            text = text[: max(room - len(_MARK), 0)] + _MARK
        self.room -= len(text)
        valid = sound(text)
        if valid is not text:
            self.converted += 1
        return valid

    def _integer(self, value: int) -> Any:
        bits = value.bit_length()
        if bits > _BITS:
            return self._stand_in(f"(integer of {bits} bits)")
        self.room -= 1 + bits * 3 // 10
        return msgspec.Raw(str(value).encode()) if bits > 63 else value

    def _bytes(self, value: bytes | bytearray | memoryview, depth: int) -> str:
        """Base64, as the encoder writes bytes."""
        view = memoryview(value)
        fits = max(self.room - 2, 0) // 4 * 3
        if view.nbytes <= fits:
            raw = view.tobytes()
        else:
            raw = view.cast("B")[:fits].tobytes()
            self.lose((view.nbytes - fits) * 4 // 3 + 1)
        text = base64.b64encode(raw).decode()
        self.room -= 2 + len(text)
        return text

    # -- collections
    def _items(self, items: Iterator[Any], size: int, depth: int) -> list[Any]:
        """`items`, of which there are `size`, in the order in which they come."""
        self.room -= 1
        given = list(islice(items, self.fits(size)))  # one step: another thread may change them
        found: list[Any] = []
        for x in given:
            if self.room < 2 or self._nodes <= 0:
                self.lose(2 * (len(given) - len(found)))
                break
            self.room -= 1
            found.append(self.of(x, depth - 1))
        return found

    def _pairs(self, pairs: Iterator[tuple[Any, Any]], size: int, depth: int) -> dict[str, Any]:
        self.room -= 1
        given = list(islice(pairs, self.fits(size, 5)))
        found: dict[str, Any] = {}
        for k, x in given:
            if self.room < 5 or self._nodes <= 0:
                self.lose(5 * (len(given) - len(found)))
                break
            self.room -= 2
            key = name = self._key(k, depth)
            number = len(found)
            while name in found:
                number += 1
                name = f"{key} ({number})"
            found[name] = self.of(x, depth - 1)
        return found

    def _key(self, value: Any, depth: int) -> str:
        t = type(value)
        if t is str:
            return self._text(value)
        before = self.converted
        data = self.of(value, depth - 1)
        if data is None or type(data) in (bool, list, dict):  # JSON has no such keys
            self.converted = max(self.converted, before + 1)
        return as_text(data)

    def _fields(self, value: Any, names: Iterable[tuple[str, str]], depth: int) -> dict[str, Any]:
        """An object by its fields: (name in the object, name to write)."""
        pairs = []
        for own, name in names:
            x = _attribute(value, own)
            if x is not _MISSING:
                pairs.append((name, x))
        self.converted += 1
        return self._pairs(iter(pairs), len(pairs), depth)

    # -- everything else
    def _other(self, value: Any, t: type, depth: int) -> Any:
        if t in self._handlers:
            convert = self._handlers[t]
        else:
            convert = self._handlers[t] = self._handler(t)
        if convert is None:
            return self._name(t)
        key = id(value)
        if key in self._open:
            return self._stand_in(CIRCLE)
        if depth <= 0:
            return self._stand_in(DEEP)
        self._open.add(key)
        try:
            return convert(self, value, depth)
        finally:
            self._open.discard(key)

    def _handler(self, t: type) -> Handler | None:
        found = _EXACT.get(t)
        if found is not None:
            return found
        if issubclass(t, enum.Enum):
            return _enum
        if self._libraries is None:
            self._libraries = _libraries()
        for base in _mro(t):
            found = self._libraries.get(base) or _BASES.get(base)
            if found is not None:
                return found
        if of_class(t, "__pydantic_complete__") is False:  # its fields are not final yet
            return _by_fields.__wrapped__(t)
        key: Any = t
        return _by_fields(key)


Handler = Callable[[Conversion, Any, int], Any]


# -- handlers of known kinds
def _json_text(c: Conversion, value: JsonText, depth: int) -> Any:
    text = str.__str__(value)
    if len(text) <= c.room:
        try:
            raw = text.encode()
            _checked(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        else:
            c.room -= len(raw)
            return msgspec.Raw(raw)
    return c._stand_in(text)


def _str(c: Conversion, value: str, depth: int) -> Any:
    return c._text(str.__str__(value))


def _int(c: Conversion, value: int, depth: int) -> Any:
    return c._integer(int.__index__(value))


def _float(c: Conversion, value: float, depth: int) -> Any:
    return c.of(float.__float__(value))


def _dict(c: Conversion, value: dict[Any, Any], depth: int) -> Any:
    return c._pairs(iter(dict.items(value)), dict.__len__(value), depth)


def _ordered(c: Conversion, value: collections.OrderedDict[Any, Any], depth: int) -> Any:
    return c._pairs(iter(collections.OrderedDict.items(value)), dict.__len__(value), depth)


def _proxy(c: Conversion, value: types.MappingProxyType[Any, Any], depth: int) -> Any:
    return c.of(gc.get_referents(value)[0], depth)


def _list(c: Conversion, value: list[Any], depth: int) -> Any:
    return c._items(list.__iter__(value), list.__len__(value), depth)


def _tuple(c: Conversion, value: tuple[Any, ...], depth: int) -> Any:
    names = of_class(type(value), "_fields")
    size = tuple.__len__(value)
    if type(names) is tuple and len(names) == size and all(type(n) is str for n in names):
        c.converted += 1
        return c._pairs(zip(names, tuple.__iter__(value), strict=True), size, depth)
    return c._items(tuple.__iter__(value), size, depth)


def _counted(iterate: Callable[[Any], Iterator[Any]], size: Callable[[Any], int]) -> Handler:
    """The handler of a collection that is not JSON's own."""

    def convert(c: Conversion, value: Any, depth: int) -> Any:
        c.converted += 1
        return c._items(iterate(value), size(value), depth)

    return convert


def _range(c: Conversion, value: range, depth: int) -> Any:
    step = abs(value.step)
    length = (value.stop - value.start) * (1 if value.step > 0 else -1)
    part = value[: c.fits(max(0, -(-length // step)))]  # len() refuses large ones
    c.converted += 1
    return c._items(iter(part), len(part), depth)


def _user_data(c: Conversion, value: Any, depth: int) -> Any:
    return c.of(_attribute(value, "data"), depth - 1)


def _namespace(c: Conversion, value: types.SimpleNamespace, depth: int) -> Any:
    held = _instance_dict(value)
    c.converted += 1
    return c._pairs(iter(held.items()), len(held), depth)


def _enum(c: Conversion, value: enum.Enum, depth: int) -> Any:
    return c.of(_attribute(value, "_value_"), depth - 1)


def _datetime(c: Conversion, value: datetime.datetime, depth: int) -> Any:
    d: Any = datetime.datetime
    parts = (d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond)
    return c.of(d(*(p.__get__(value) for p in parts), tzinfo=d.tzinfo.__get__(value)))


def _date(c: Conversion, value: datetime.date, depth: int) -> Any:
    d: Any = datetime.date
    return c.of(d(d.year.__get__(value), d.month.__get__(value), d.day.__get__(value)))


def _time(c: Conversion, value: datetime.time, depth: int) -> Any:
    d: Any = datetime.time
    parts = (d.hour, d.minute, d.second, d.microsecond)
    return c.of(d(*(p.__get__(value) for p in parts), tzinfo=d.tzinfo.__get__(value)))


def _timedelta(c: Conversion, value: datetime.timedelta, depth: int) -> Any:
    d: Any = datetime.timedelta
    return c.of(d(d.days.__get__(value), d.seconds.__get__(value), d.microseconds.__get__(value)))


def _decimal(c: Conversion, value: decimal.Decimal, depth: int) -> Any:
    return c._text(decimal.Decimal.__str__(value))


def _uuid(c: Conversion, value: uuid.UUID, depth: int) -> Any:
    return c.of(uuid.UUID(int=_attribute(value, "int")))


def _text_by(text: Callable[[Any], str]) -> Handler:
    """The handler of a kind that is written as text."""
    return lambda c, value, depth: c._stand_in(text(value))


def _function_name(value: Any) -> str:
    t = type(value)
    if t not in (types.FunctionType, types.BuiltinFunctionType):
        return type_name(t)
    return str(t.__dict__["__qualname__"].__get__(value))


def _pattern(c: Conversion, value: re.Pattern[Any], depth: int) -> Any:
    c.converted += 1
    return c.of(value.pattern)


_arguments: Final[Callable[[BaseException], tuple[Any, ...]]] = vars(BaseException)["args"].__get__


def _exception(c: Conversion, value: BaseException, depth: int) -> Any:
    """Type and arguments as a traceback shows them; the `__str__` of its class is not called."""
    name = type_name(type(value))
    text = _system_error(value) if issubclass(type(value), OSError) else None
    if text is None:
        args = _arguments(value)
        data = [c.of(a, depth - 1) for a in args[:16]]
        text = as_text(data[0] if len(data) == 1 else data) if data else ""
    c.converted += 1
    return sound(f"{name}: {text}" if text else name)


def _system_error(value: Any) -> str | None:
    number, reason, name = (
        getattr(OSError, part).__get__(value) for part in ("errno", "strerror", "filename")
    )
    if type(number) is not int or type(reason) is not str:
        return None
    text = f"[Errno {number}] {reason}"
    return f"{text}: {name!r}" if type(name) is str else text


def _struct(c: Conversion, value: msgspec.Struct, depth: int) -> Any:
    t = type(value)
    return c._fields(value, zip(t.__struct_fields__, t.__struct_encode_fields__, strict=True), depth)


# -- numpy and pandas. A value of theirs proves that they are imported.
def _numpy_scalar(c: Conversion, value: Any, depth: int) -> Any:
    scalar: Any = sys.modules["numpy"].generic
    kind = scalar.dtype.__get__(value)
    if kind.kind in "mM":
        item = scalar.astype(value, f"{kind.kind}8[us]").item()
    elif kind.char in "gG":
        item = scalar.astype(value, "c16" if kind.char == "G" else "f8").item()
    else:
        item = scalar.item(value)
    c.converted += 1
    return c.of(item, depth - 1)


def _numpy_array(c: Conversion, value: Any, depth: int) -> Any:
    plain: Any = sys.modules["numpy"].ndarray
    c.converted += 1
    return _numpy_rows(c, plain.view(value, plain), depth)


def _numpy_rows(c: Conversion, rows: Any, depth: int) -> Any:
    if rows.ndim == 0:
        return c.of(rows[()], depth - 1)
    size = rows.shape[0]
    if rows.ndim == 1:
        part = rows[: c.fits(size)]
        if part.dtype.kind in "biu":
            c.room -= 1 + 2 * part.size
            return part.tolist()
        if part.dtype.kind in "mM":
            part = part.astype(f"{part.dtype.kind}8[us]")
        elif part.dtype.char in "gG":
            part = part.astype("c16" if part.dtype.char == "G" else "f8")
        return c._items(iter(part.tolist()), part.size, depth)
    c.room -= 1
    found: list[Any] = []
    for row in rows[: c.fits(size)]:
        if c.room < 2:
            c.lose(2 * row.size * (size - len(found)))
            break
        c.room -= 1
        found.append(_numpy_rows(c, row, depth - 1))
    return found


def _null(c: Conversion, value: Any, depth: int) -> Any:
    c.room -= 4
    c.converted += 1
    return None


def _pandas_values(c: Conversion, value: Any, depth: int) -> Any:
    c.converted += 1
    part = value[: c.fits(len(value))]
    return c._items(iter(part.tolist()), len(part), depth)


def _pandas_series(c: Conversion, value: Any, depth: int) -> Any:
    part = value.iloc[: c.fits(len(value))]
    c.converted += 1
    index = _pandas_index(part)
    found = {} if index is None else {"index": c._items(iter(index), len(index), depth - 1)}
    data = c._items(iter(part.tolist()), len(part), depth - 1)
    return {**found, "data": data} if found else data


def _pandas_frame(c: Conversion, value: Any, depth: int) -> Any:
    """As pandas' own orient="split": columns, index unless it only counts, rows."""
    rows, columns = value.shape
    wide = c.fits(columns)
    part = value.iloc[: c.fits(rows, 2 * max(wide, 1)), :wide]
    index = _pandas_index(part)
    cells = part.astype(object).to_numpy().tolist()
    c.converted += 1
    found = {"columns": c._items(iter(part.columns.tolist()), wide, depth - 1)}
    if index is not None:
        found["index"] = c._items(iter(index), len(index), depth - 1)
    found["data"] = c._items(iter(cells), len(cells), depth - 1)
    return found


def _pandas_index(value: Any) -> list[Any] | None:
    """The labels of the rows; None if they are the rows' numbers."""
    index = value.index
    counts = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
    return None if counts else index.tolist()


_LIBRARIES: Final[Mapping[str, Mapping[str, Handler]]] = {
    "numpy": {"generic": _numpy_scalar, "ndarray": _numpy_array},
    "pandas": {
        "DataFrame": _pandas_frame,
        "Series": _pandas_series,
        "Index": _pandas_values,
        "Categorical": _pandas_values,
        "Interval": _text_by(str),
        "Period": _text_by(str),
        "NaT": _null,
        "NA": _null,
    },
}
"""Module -> name of a class, or of its only instance -> handler."""


def _libraries() -> dict[type, Handler]:
    """The kinds of the libraries that are imported."""
    found: dict[type, Handler] = {}
    for name, kinds in _LIBRARIES.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        held = object.__getattribute__(module, "__dict__")  # a module that is loaded lazily stays unloaded
        for kind, handler in kinds.items():
            known = held.get(kind)
            if known is not None:
                found[known if issubclass(type(known), type) else type(known)] = handler
    return found


# -- kinds that are known by what their class says about its fields
@functools.lru_cache(maxsize=512)
def _by_fields(t: type) -> Handler | None:
    """The handler of a class with declared fields; None for any other class.

    What a class keeps out of its repr or its serialised form is left out, and so is what it names as private.
    """
    if issubclass(t, msgspec.Struct):
        return _struct
    if any(type_name(base) in _MODELS for base in _mro(t)):
        return _model(_pydantic_fields(t))
    if type(of_class(t, "__dataclass_fields__")) is dict:
        declared: Any = t
        names = [f.name for f in dataclasses.fields(declared) if f.repr]
        if type(of_class(t, "__pydantic_fields__")) is dict:
            shown = _pydantic_fields(t)
            names = [n for n in names if n in shown]
        return _fielded(names)
    attributes = of_class(t, "__attrs_attrs__")
    if attributes is not None and issubclass(type(attributes), tuple):
        return _fielded([a.name for a in attributes if a.repr is True])
    return None


def _fielded(names: list[str]) -> Handler:
    shown = [(n, n) for n in names if not n.startswith("_")]
    return lambda c, value, depth: c._fields(value, shown, depth)


_MODELS: Final = frozenset({"pydantic.main.BaseModel", "pydantic.v1.main.BaseModel"})


def _model(names: list[str]) -> Handler:
    """The handler of a pydantic model, which may have fields that its class does not declare."""

    def convert(c: Conversion, value: Any, depth: int) -> Any:
        more = _attribute(value, "__pydantic_extra__")
        held = _instance_dict(value)
        given = {n: held[n] for n in names if n in held} | (more if type(more) is dict else {})
        pairs = [(n, x) for n, x in given.items() if not n.startswith("_")]
        c.converted += 1
        return c._pairs(iter(pairs), len(pairs), depth)

    return convert


def _pydantic_fields(t: type) -> list[str]:
    """The fields of a pydantic class that it shows as they are."""
    for name in ("__pydantic_fields__", "model_fields", "__fields__"):  # since 2.10, since 2.0, before
        fields = of_class(t, name)
        if type(fields) is dict:
            break
    else:
        return []
    own = of_class(t, "__pydantic_decorators__")
    serialised = {f for d in getattr(own, "field_serializers", {}).values() for f in d.info.fields}
    found = []
    for name, field in fields.items():
        info: Any = getattr(field, "field_info", field)
        replaced = any("Serializer" in _qualname(type(m)) for m in getattr(info, "metadata", ()))
        if info.repr and not info.exclude and not replaced and not serialised & {name, "*"}:
            found.append(name)
    return found


_BASES: Final[Mapping[type, Handler]] = {
    JsonText: _json_text,
    str: _str,
    int: _int,
    float: _float,
    bytes: Conversion._bytes,
    bytearray: Conversion._bytes,
    collections.OrderedDict: _ordered,
    dict: _dict,
    list: _list,
    tuple: _tuple,
    set: _counted(set.__iter__, set.__len__),
    frozenset: _counted(frozenset.__iter__, frozenset.__len__),
    collections.deque: _counted(collections.deque.__iter__, collections.deque.__len__),
    array.array: _counted(array.array.__iter__, array.array.__len__),
    collections.UserDict: _user_data,
    collections.UserList: _user_data,
    collections.UserString: _user_data,
    types.SimpleNamespace: _namespace,
    datetime.datetime: _datetime,
    datetime.date: _date,
    datetime.time: _time,
    datetime.timedelta: _timedelta,
    decimal.Decimal: _decimal,
    uuid.UUID: _uuid,
    complex: _text_by(complex.__repr__),
    pathlib.PurePath: _text_by(pathlib.PurePath.__str__),
    BaseException: _exception,
    type: _text_by(type_name),
}
"""Kinds that may have subclasses, which are treated alike."""

_EXACT: Final[Mapping[type, Handler]] = {
    range: _range,
    memoryview: Conversion._bytes,
    types.MappingProxyType: _proxy,
    type({}.keys()): _counted(iter, len),
    type({}.values()): _counted(iter, len),
    type({}.items()): _counted(iter, len),
    re.Pattern: _pattern,
    fractions.Fraction: _text_by(str),
    types.FunctionType: _text_by(_function_name),
    types.BuiltinFunctionType: _text_by(_function_name),
    types.MethodType: _text_by(lambda m: _function_name(m.__func__)),
    **{
        t: _text_by(str)
        for t in (
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
            ipaddress.IPv4Interface,
            ipaddress.IPv6Interface,
        )
    },
}
"""Kinds that are known only without subclasses."""
