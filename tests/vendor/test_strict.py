"""The strict check of bodies, on types that have the traps of the vendors' SDKs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, Required, Union

import pydantic
import pytest
from typing_extensions import TypedDict

from tests.vendor import strict
from tests.vendor.inside import Request, serve
from tests.vendor.strict import problems

Tokens = NewType("Tokens", int)


@dataclasses.dataclass
class Alias:
    """Metadata that names the key in JSON, as two generators of SDKs write it. Unhashable, as some is."""

    alias: str


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    text: str
    key_count: Annotated[Optional[int], Alias("keyCount")] = None  # noqa: UP045


class Body(pydantic.BaseModel):
    """A body as of an SDK that accepts nearly everything."""

    model_config = pydantic.ConfigDict(extra="allow")
    id: str
    kind: Union[Literal["a", "b"], Any, None] = None  # noqa: UP007
    level: Level | None = None
    at: dt.datetime | None = None
    cost: float | None = None
    count: Tokens | None = None
    flag: bool | None = None
    parts: list[Part] = []
    usage: dict[str, int] = {}
    free: dict[str, Any] = {}
    raw: Any = None
    renamed: int = pydantic.Field(default=0, alias="reName")


class Summary(TypedDict, total=False):
    usage: dict[str, int]


class Call(TypedDict, total=False):
    id: Required[str]
    started_at: Required[Annotated[str | dt.datetime, Alias("startedAt")]]
    summary: Summary | dict[str, object]
    either: Summary | list[Summary]


class Whole(TypedDict):
    batch: Iterable[Call]
    note: NotRequired[str]


GOOD = {
    "id": "1",
    "kind": "a",
    "level": "low",
    "at": "2026-03-01T12:00:00Z",
    "cost": 1,
    "count": 3,
    "flag": True,
    "parts": [{"text": "t", "keyCount": 2}, {"text": "u", "keyCount": None}],
    "usage": {"x": 1},
    "free": {"any": [{"thing": 1.5}]},
    "raw": {"what": "ever"},
    "reName": 4,
}
CALL = {"id": "1", "startedAt": "2026-03-01T12:00:00.000001+00:00", "summary": {"usage": {"x": 1}}}


def test_what_is_right_passes() -> None:
    assert problems(Body, GOOD) == []
    assert problems(Body, {**GOOD, "kind": None, "at": None, "cost": 0.5}) == []
    assert problems(Whole, {"batch": [CALL, {**CALL, "either": [{"usage": {}}]}]}) == []
    assert problems(list[Body], [GOOD, GOOD]) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unheard": 1}, [".unheard: unknown key"]),
        ({"renamed": 1}, [".renamed: unknown key"]),  # the field's name, not the key's
        ({"kind": "c"}, [".kind: 'c' is not one of ['a', 'b']"]),
        ({"kind": 3}, [".kind: 3 is not one of ['a', 'b']"]),
        ({"level": "middle"}, [".level: 'middle' is not one of ['high', 'low']"]),
        ({"at": "yesterday"}, [".at: 'yesterday' is not an ISO 8601 time with a time zone"]),
        (
            {"at": "2026-03-01T12:00:00"},
            [".at: '2026-03-01T12:00:00' is not an ISO 8601 time with a time zone"],
        ),
        ({"at": 1772366400}, [".at: 1772366400 is not datetime"]),
        ({"cost": "0.1"}, [".cost: '0.1' is not float"]),
        ({"cost": True}, [".cost: True is not float"]),
        ({"count": 1.5}, [".count: 1.5 is not int"]),
        ({"count": "3"}, [".count: '3' is not int"]),
        ({"flag": 1}, [".flag: 1 is not bool"]),
        ({"id": None}, [".id: is null"]),
        ({"id": ["1"]}, [".id: is a list"]),
        ({"id": {"a": 1}}, [".id: is an object"]),
        ({"usage": {"x": 1.5}}, [".usage.x: 1.5 is not int"]),
        ({"usage": [1]}, [".usage: is a list"]),
        ({"parts": "t"}, [".parts: 't' is not a list"]),
        (
            {"parts": [{"text": "t"}, {"key_count": 1}]},
            [".parts[1].key_count: unknown key", ".parts[1].text: missing"],
        ),
        ({"parts": [{"text": 1}]}, [".parts[0].text: 1 is not str"]),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], says: list[str]) -> None:
    assert problems(Body, {**GOOD, **change}) == says


def test_a_missing_key_is_said() -> None:
    assert problems(Body, {k: v for k, v in GOOD.items() if k != "id"}) == [".id: missing"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"startedAt": "soon"}, [".batch[1].startedAt: 'soon' is not an ISO 8601 time with a time zone"]),
        ({"startedAt": 5}, [".batch[1].startedAt: 5 is not datetime or str"]),
        ({"started_at": "x"}, [".batch[1].started_at: unknown key"]),
        # a dictionary with any keys beside a type does not open the type
        ({"summary": {"usages": {}}}, [".batch[1].summary.usages: unknown key"]),
        ({"summary": {"usage": {"x": "1"}}}, [".batch[1].summary.usage.x: '1' is not int"]),
        ({"either": [{"bad": 1}]}, [".batch[1].either[0].bad: unknown key"]),
    ],
)
def test_typed_dictionaries(change: dict[str, Any], says: list[str]) -> None:
    assert problems(Whole, {"batch": [CALL, {**CALL, **change}]}) == says


def test_required_keys_of_typed_dictionaries_whose_annotations_are_text() -> None:
    assert problems(Whole, {"batch": [{"id": "1"}]}) == [".batch[0].startedAt: missing"]
    assert problems(Whole, {"batch": [], "note": "n"}) == []
    assert problems(Whole, {"note": "n"}) == [".batch: missing"]


def test_keys_may_be_allowed() -> None:
    assert problems(Body, {**GOOD, "unheard": 1}, ["unheard"]) == []


def test_the_items_of_an_iterable_are_parsed() -> None:
    """pydantic returns an iterator that has checked nothing."""

    class Row(TypedDict):
        rows: Iterable[int]

    assert strict.parsed(Row, {"rows": [1, 2]}) == []
    assert strict.parsed(Row, {"rows": [1, "two"]}) != []
    assert strict.parsed(Body, {**GOOD, "count": "three"}) != []


def test_a_judge_prints_a_line_a_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        '{"method": "PUT", "path": "/a/b", "body": {"x": 1}}\n',
        '{"method": "PUT", "path": "/c", "body": []}\n',
    ]
    monkeypatch.setattr("sys.stdin", lines)

    def judge(request: Request) -> Any:
        yield from () if request.matches("PUT", "/b") else [f"{request.body}: bad"]

    with pytest.raises(SystemExit) as ended:
        serve(judge)
    assert (ended.value.code, capsys.readouterr().out) == (0, '[]\n["[]: bad"]\n')
    monkeypatch.setattr("sys.stdin", [])
    with pytest.raises(SystemExit) as ended:
        serve(judge)
    assert ended.value.code == 1
