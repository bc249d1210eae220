"""Handlers of numpy's and pandas' kinds. A value of theirs proves that they are imported. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from tailrace.conversion.standard import of_datetime, of_timedelta, text_by
from tailrace.conversion.walk import Conversion, Handler

_TABLE: Final = 400
"""Values of Python that take as long as one small table of pandas."""


def _numpy_scalar(c: Conversion, value: Any, depth: int) -> Any:
    np: Any = sys.modules["numpy"]
    scalar = np.generic
    kind = scalar.dtype.__get__(value)
    if kind.kind in "mM":
        whole = scalar.astype(value, f"{kind.kind}8[us]")
        if not _same(whole, value):  # a year far away, or nanoseconds
            own = np.datetime64 if kind.kind == "M" else np.timedelta64
            return c.stand_in(own.__str__(value))
        item = whole.item()
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
            whole = part.astype(f"{part.dtype.kind}8[us]")
            part = whole if _same(whole, part) else part.astype(str)
        elif part.dtype.char in "gG":
            part = part.astype("c16" if part.dtype.char == "G" else "f8")
        return c.items(iter(part.tolist()), part.size, depth)
    c.room -= 1
    found: list[Any] = []
    for row in rows[: c.fits(size)]:
        if c.room < 2:
            c.lose(2 * row.size * (size - len(found)))
            break
        c.room -= 1
        found.append(_numpy_rows(c, row, depth - 1))
    return found


def _same(whole: Any, exact: Any) -> bool:
    """Whether times in whole microseconds are those that were given."""
    np = sys.modules["numpy"]
    again = whole.astype(exact.dtype)
    return bool(((again == exact) | (np.isnat(again) & np.isnat(exact))).all())


def _numpy_masked(c: Conversion, value: Any, depth: int) -> Any:
    """What is masked is null."""
    np: Any = sys.modules["numpy"]
    part = value if value.ndim == 0 else value[: c.fits(value.shape[0])]
    cells = np.ma.getdata(part, subok=False).astype(object)
    cells[np.ma.getmaskarray(part)] = None
    c.converted += 1
    return _numpy_rows(c, cells, depth)


def _null(c: Conversion, value: Any, depth: int) -> Any:
    c.room -= 4
    c.converted += 1
    return None


def _pandas_time(name: str, as_python: Handler) -> Handler:
    """The handler of pandas' times, which have nanoseconds where Python's have none."""

    def convert(c: Conversion, value: Any, depth: int) -> Any:
        kind: Any = getattr(sys.modules["pandas"], name)
        nanoseconds = kind.nanosecond if name == "Timestamp" else kind.nanoseconds
        if nanoseconds.__get__(value):
            return c.stand_in(kind.isoformat(value))
        return as_python(c, value, depth)

    return convert


def _pandas_values(c: Conversion, value: Any, depth: int) -> Any:
    c.work(_TABLE)
    c.converted += 1
    part = value[: c.fits(len(value))]
    return c.items(iter(part.tolist()), len(part), depth)


def _pandas_series(c: Conversion, value: Any, depth: int) -> Any:
    c.work(_TABLE)
    part = value.iloc[: c.fits(len(value))]
    c.converted += 1
    index = _pandas_index(part)
    found = {} if index is None else {"index": c.items(iter(index), len(index), depth - 1)}
    data = c.items(iter(part.tolist()), len(part), depth - 1)
    return {**found, "data": data} if found else data


def _pandas_frame(c: Conversion, value: Any, depth: int) -> Any:
    """As pandas' own orient="split": columns, index unless it only counts, rows."""
    c.work(_TABLE)
    rows, columns = value.shape
    wide = c.fits(columns)
    part = value.iloc[: c.fits(rows, 2 * max(wide, 1)), :wide]
    index = _pandas_index(part)
    cells = part.astype(object).to_numpy().tolist()
    c.converted += 1
    found = {"columns": c.items(iter(part.columns.tolist()), wide, depth - 1)}
    if index is not None:
        found["index"] = c.items(iter(index), len(index), depth - 1)
    found["data"] = c.items(iter(cells), len(cells), depth - 1)
    return found


def _pandas_index(value: Any) -> list[Any] | None:
    """The labels of the rows; None if they are the rows' numbers."""
    index = value.index
    counts = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
    return None if counts else index.tolist()


_LIBRARIES: Final[Mapping[str, Mapping[str, Handler]]] = {
    "numpy": {"generic": _numpy_scalar, "ndarray": _numpy_array},
    "numpy.ma": {"MaskedArray": _numpy_masked},
    "pandas": {
        "DataFrame": _pandas_frame,
        "Series": _pandas_series,
        "Index": _pandas_values,
        "Categorical": _pandas_values,
        "Timestamp": _pandas_time("Timestamp", of_datetime),
        "Timedelta": _pandas_time("Timedelta", of_timedelta),
        "Interval": text_by(str),
        "Period": text_by(str),
        "NaT": _null,
        "NA": _null,
    },
}
"""Module -> name of a class, or of its only instance -> handler."""


def imported() -> dict[type, Handler]:
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
