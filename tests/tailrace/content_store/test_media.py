"""Base64 media in text: the usual shapes are found and named, nothing else is touched, nothing is slow."""

from __future__ import annotations

import base64
import json
import random
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.content import JsonText, json_text
from tailrace.content_store import media
from tailrace.content_store.media import LEAST, MOST, Medium, likely, marker, may_hold, named
from tailrace.content_store.naming import content_hash

PNG = b"\x89PNG\r\n\x1a\n"


def some(size: int = LEAST, start: bytes = PNG, seed: int = 1) -> bytes:
    return start + random.Random(seed).randbytes(size)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


DATA = some()
B64 = b64(DATA)
LINES = "\r\n".join(B64[n : n + 64] for n in range(0, len(B64), 64))
SHAPES: list[tuple[str, Any, str]] = [
    (
        "OpenAI, chat",
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}", "detail": "low"}},
        "image/png",
    ),
    (
        "OpenAI, responses",
        {"type": "input_image", "image_url": f"data:image/webp;base64,{B64}"},
        "image/webp",
    ),
    ("OpenAI, file", {"file": {"file_data": f"data:application/pdf;base64,{B64}"}}, "application/pdf"),
    ("OpenAI, audio in", {"input_audio": {"data": B64, "format": "wav"}}, "audio/wav"),
    ("OpenAI, image out", {"data": [{"b64_json": B64}]}, "image/png"),
    ("Anthropic", {"source": {"type": "base64", "media_type": "image/jpeg", "data": B64}}, "image/jpeg"),
    ("Gemini", {"inlineData": {"mimeType": "image/heic", "data": B64}}, "image/heic"),
    ("Gemini, Python", {"inline_data": {"data": B64, "mime_type": "audio/x-wav"}}, "audio/x-wav"),
    ("Bedrock", {"image": {"format": "png", "source": {"bytes": DATA}}}, "image/png"),
    (
        "LangChain",
        {"type": "image", "source_type": "base64", "data": B64, "mime_type": "image/gif"},
        "image/gif",
    ),
    ("parameters", f"data:text/plain;charset=utf-8;base64,{B64}", "text/plain"),
    ("no type", f"data:;base64,{B64}", "image/png"),
    ("upper case", f"DATA:image/PNG;BASE64,{B64}", "image/png"),
    ("MIME", {"data": base64.encodebytes(DATA).decode()}, "image/png"),
    ("MIME, of a sibling's type", {"data": LINES, "mime_type": "image/x-own"}, "image/x-own"),
    ("MIME, data URI", {"url": f"data:image/webp;base64,{LINES}"}, "image/webp"),
    ("Markdown", f"see ![a](data:image/png;base64,{B64}) there", "image/png"),
]


@pytest.mark.parametrize(("shape", "value", "kind"), SHAPES, ids=[s[0] for s in SHAPES])
@pytest.mark.parametrize("nested", [0, 1, 2])
def test_a_medium_is_named_wherever_it_is(shape: str, value: Any, kind: str, nested: int) -> None:
    text = json_text({"before": "{[", "messages": [{"content": [value, "after"]}]}, "inputs")
    for _ in range(nested):  # JSON text in a string of JSON
        text = json_text(text, "inputs")
    assert text is not None
    assert may_hold(text)
    assert likely(value)
    shorter, found = named(text)
    assert found == [Medium(kind, DATA, content_hash(DATA))]
    name = f"[{kind}, {len(DATA)} bytes, {content_hash(DATA)}]"
    assert marker(found[0]) == name
    assert shorter.count(name) == 1
    assert len(shorter) < 1000 * 2**nested
    assert B64[100:200] not in shorter
    same: Any = shorter
    for _ in range(nested + 1):
        same = json.loads(same)
    assert same["before"] == "{["
    assert same["messages"][0]["content"][1] == "after"


def test_slashes_that_are_escaped_and_the_other_alphabet_are_the_same_medium() -> None:
    for text in (
        json.dumps({"data": B64, "media_type": "image/png"}).replace("/", "\\/"),
        json.dumps({"url": f"data:image/png;base64,{B64}"}).replace("/", "\\/"),
        json.dumps({"data": base64.urlsafe_b64encode(DATA).decode(), "mimeType": "image/png"}),
        json.dumps({"data": B64.rstrip("="), "mimeType": "image/png"}),
        json.dumps({"data": B64}).replace("+", "\\u002B").replace("=", "\\u003d"),
        json.dumps({"data": B64}).replace("/", "\\u002f").replace("+", "\\u002b"),
    ):
        shorter, [found] = named(text)
        assert found.data == DATA
        assert found.media_type == "image/png"
        assert found.hash in json.loads(shorter).popitem()[1] or found.hash in json.loads(shorter)["data"]


@pytest.mark.parametrize(
    ("brand", "kind"),
    [
        (b"heic", "image/heic"),
        (b"mif1", "image/heif"),
        (b"avif", "image/avif"),
        (b"M4A ", "audio/mp4"),
        (b"isom", "video/mp4"),
    ],
)
def test_what_looks_like_a_film_may_be_an_image(brand: bytes, kind: str) -> None:
    data = some(start=b"\0\0\0\x18ftyp" + brand)
    [found] = named(json.dumps({"data": b64(data)}))[1]
    assert found.media_type == kind


@pytest.mark.parametrize(
    "value",
    [
        {"data": "\n".join(f"{n:032x}" for n in range(2_000)), "mime_type": "text/plain"},  # ids in lines
        "a" * 100_000,
        {"data": "a" * 100_000},  # base64, but of no type that is known
        {"data": "a" * 100_000, "other": {"mimeType": "image/png"}},  # another object's type
        {"a": {"mimeType": "image/png"}, "data": "b" * 99_999},
        {"url": "data:image/png;base64," + "a" * (LEAST - 4)},  # too short
        {"url": "data:image/png;base64," + "a" * 20_001},  # no base64 has this length
        {"url": "data:image/png," + "a" * 50_000},
        {"data": "a" * 50_000 + " ", "mimeType": "image/png"},
        {"data": "x" + "\\" * 50_000, "mimeType": "image/png"},
    ],
)
def test_what_is_no_medium_stays_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    assert named(text) == (text, [])


@given(
    pieces=st.lists(
        st.sampled_from(
            ["", "a", " ", '"', "\\", "{", "}", "é", "\n", '"data":"', "data:image/png;base64,", B64]
        )
        | st.integers(0, 3 * LEAST).map(lambda n: "b" * n)
        | st.text(max_size=20),
        max_size=12,
    )
)
@example(pieces=["data:image/png;base64,", B64, "data:image/png;base64,", B64])
@example(pieces=["data:image/png;base64,", B64, "\\"])
def test_any_text_is_searched_and_nothing_but_media_changes(pieces: list[str]) -> None:
    text = "".join(pieces)
    shorter, found = named(text)
    if not may_hold(text):
        assert not found
    rest = shorter
    for medium in found:
        before, name, rest = rest.partition(marker(medium))
        assert name
        assert before in text
    assert rest in text
    assert (shorter == text) is (not found)
    for medium in found:
        assert content_hash(medium.data) == medium.hash
        assert re.fullmatch(r"[\w.+-]+/[\w.+-]+", medium.media_type)
        whole = b64(medium.data).rstrip("=")[:-1]  # the last digit may have bits that no byte needs
        assert whole in text.replace("-", "+").replace("_", "/")


@given(
    before=st.text(max_size=200),
    after=st.text(max_size=200),
    size=st.integers(LEAST, 5 * LEAST),
    offset=st.integers(0, 2 * LEAST),
)
def test_a_medium_is_found_at_any_place_and_of_any_size(
    before: str, after: str, size: int, offset: int
) -> None:
    data = some(size)
    text = json.dumps({"x": before + " " * offset + f"data:image/png;base64,{b64(data)}", "y": after})
    assert may_hold(text)
    shorter, [found] = named(text)
    assert found.data == data
    assert json.loads(shorter) == {"x": before + " " * offset + marker(found), "y": after}


def test_more_media_than_an_event_names_stay() -> None:
    one = f"data:image/png;base64,{B64} "
    shorter, found = named(one * (MOST + 2))
    assert len(found) == MOST
    assert shorter.count("base64,") == 2
    assert len(named(one * 3, 2)[1]) == 2
    assert named(one, 0)[1] == []


def test_a_search_takes_as_many_steps_as_the_text_has_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are just too short to be a medium would be walked again from each of their characters."""
    looked = 0

    class Counting:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self.pattern = pattern

        def search(self, text: str, at: int) -> re.Match[str] | None:
            nonlocal looked
            found = self.pattern.search(text, at)
            looked += (len(text) if found is None else found.start()) - at
            return found

    monkeypatch.setattr(media, "_OTHER", Counting(media._OTHER))
    text = ("a" * (LEAST - 1) + " ") * 100
    assert named(text) == (text, [])
    assert looked <= len(text)


def test_likely_looks_at_a_bounded_part_and_at_nothing_that_could_run_code() -> None:
    class Hostile(dict[str, Any]):
        def values(self) -> Any:
            raise AssertionError("was called")

    assert not likely(Hostile(a=B64))
    assert likely({"a": [1, (JsonText(f'"{B64}"'),)]})
    deep: Any = B64
    for _ in range(media.NODES + 5):
        deep = [deep]
    assert not likely(deep)
    circle: list[Any] = []
    circle.append(circle)
    assert not likely(circle)
