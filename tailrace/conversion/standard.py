"""Handlers of what Python and its standard library define. Pure."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import gc
import ipaddress
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from tailrace.conversion.objects import attribute, instance_dict, of_class, type_name
from tailrace.conversion.text import JsonText
from tailrace.conversion.walk import Conversion, Handler

_checked: Final = msgspec.json.Decoder(msgspec.Raw).decode


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
    return c.stand_in(text)


def _str(c: Conversion, value: str, depth: int) -> Any:
    return c.text(str.__str__(value))


def _int(c: Conversion, value: int, depth: int) -> Any:
    return c.integer(int.__index__(value))


def _float(c: Conversion, value: float, depth: int) -> Any:
    return c.of(float.__float__(value))


def _dict(c: Conversion, value: dict[Any, Any], depth: int) -> Any:
    return c.pairs(iter(dict.items(value)), dict.__len__(value), depth)


def _ordered(c: Conversion, value: collections.OrderedDict[Any, Any], depth: int) -> Any:
    return c.pairs(iter(collections.OrderedDict.items(value)), dict.__len__(value), depth)


def _proxy(c: Conversion, value: types.MappingProxyType[Any, Any], depth: int) -> Any:
    return c.of(gc.get_referents(value)[0], depth)


def _list(c: Conversion, value: list[Any], depth: int) -> Any:
    return c.items(list.__iter__(value), list.__len__(value), depth)


def _tuple(c: Conversion, value: tuple[Any, ...], depth: int) -> Any:
    names = of_class(type(value), "_fields")
    size = tuple.__len__(value)
    if type(names) is tuple and len(names) == size and all(type(n) is str for n in names):
        c.converted += 1
        return c.pairs(zip(names, tuple.__iter__(value), strict=True), size, depth)
    return c.items(tuple.__iter__(value), size, depth)


def _counted(iterate: Callable[[Any], Iterator[Any]], size: Callable[[Any], int]) -> Handler:
    """The handler of a collection that is not JSON's own."""

    def convert(c: Conversion, value: Any, depth: int) -> Any:
        c.converted += 1
        return c.items(iterate(value), size(value), depth)

    return convert


def _range(c: Conversion, value: range, depth: int) -> Any:
    step = abs(value.step)
    length = (value.stop - value.start) * (1 if value.step > 0 else -1)
    part = value[: c.fits(max(0, -(-length // step)))]  # len() refuses large ones
    c.converted += 1
    return c.items(iter(part), len(part), depth)


def _user_data(c: Conversion, value: Any, depth: int) -> Any:
    return c.of(attribute(value, "data"), depth - 1)


def _namespace(c: Conversion, value: types.SimpleNamespace, depth: int) -> Any:
    held = instance_dict(value)
    c.converted += 1
    return c.pairs(iter(held.items()), len(held), depth)


def of_enum(c: Conversion, value: enum.Enum, depth: int) -> Any:
    return c.of(attribute(value, "_value_"), depth - 1)


def of_datetime(c: Conversion, value: datetime.datetime, depth: int) -> Any:
    d: Any = datetime.datetime
    parts = (d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond, d.tzinfo)
    return c.of(d(*(p.__get__(value) for p in parts), fold=d.fold.__get__(value)))


def _date(c: Conversion, value: datetime.date, depth: int) -> Any:
    d: Any = datetime.date
    return c.of(d(d.year.__get__(value), d.month.__get__(value), d.day.__get__(value)))


def _time(c: Conversion, value: datetime.time, depth: int) -> Any:
    d: Any = datetime.time
    parts = (d.hour, d.minute, d.second, d.microsecond, d.tzinfo)
    return c.of(d(*(p.__get__(value) for p in parts), fold=d.fold.__get__(value)))


def of_timedelta(c: Conversion, value: datetime.timedelta, depth: int) -> Any:
    d: Any = datetime.timedelta
    return c.of(d(d.days.__get__(value), d.seconds.__get__(value), d.microseconds.__get__(value)))


def _decimal(c: Conversion, value: decimal.Decimal, depth: int) -> Any:
    return c.text(decimal.Decimal.__str__(value))


def _uuid(c: Conversion, value: uuid.UUID, depth: int) -> Any:
    return c.of(uuid.UUID(int=attribute(value, "int")))


def text_by(text: Callable[[Any], str]) -> Handler:
    """The handler of a kind that is written as text."""
    return lambda c, value, depth: c.stand_in(text(value))


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
        text = c.text_of(args, depth) if args else ""
    return c.stand_in(f"{name}: {text}" if text else name)


def _system_error(value: Any) -> str | None:
    number, reason, name = (
        getattr(OSError, part).__get__(value) for part in ("errno", "strerror", "filename")
    )
    if type(number) is not int or type(reason) is not str:
        return None
    text = f"[Errno {number}] {reason}"
    return f"{text}: {name!r}" if type(name) is str else text


BASES: Final[Mapping[type, Handler]] = {
    JsonText: _json_text,
    str: _str,
    int: _int,
    float: _float,
    bytes: Conversion.base64,
    bytearray: Conversion.base64,
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
    datetime.datetime: of_datetime,
    datetime.date: _date,
    datetime.time: _time,
    datetime.timedelta: of_timedelta,
    decimal.Decimal: _decimal,
    uuid.UUID: _uuid,
    complex: text_by(complex.__repr__),
    pathlib.PurePath: text_by(pathlib.PurePath.__str__),
    BaseException: _exception,
    type: text_by(type_name),
}
"""Kinds that may have subclasses, which are treated alike."""

EXACT: Final[Mapping[type, Handler]] = {
    range: _range,
    memoryview: Conversion.base64,
    types.MappingProxyType: _proxy,
    type({}.keys()): _counted(iter, len),
    type({}.values()): _counted(iter, len),
    type({}.items()): _counted(iter, len),
    re.Pattern: _pattern,
    fractions.Fraction: text_by(str),
    types.FunctionType: text_by(_function_name),
    types.BuiltinFunctionType: text_by(_function_name),
    types.MethodType: text_by(lambda m: _function_name(m.__func__)),
    **{
        t: text_by(str)
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
