"""Secrets are masked in every form in which vendors and proxies repeat them, before a text is cut."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.sdk import redact

KEY = 'k/ey+"%<&0123456789'
BASIC = "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()


@pytest.mark.parametrize("secret", [KEY, f"Bearer {KEY}", BASIC])
@pytest.mark.parametrize(
    "written",
    [
        str,
        lambda t: quote(t, safe=""),
        lambda t: json.dumps(t)[1:-1],
        quote,
        lambda t: quote(t, safe="+:"),
        lambda t: quote(t, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
        lambda t: quote(quote(t, safe="")),
        lambda t: quote(t, safe="").replace("%2F", "%2f"),
        lambda t: quote(quote(quote(t, safe=""))),
        lambda t: json.dumps(t)[1:-1].replace("/", "\\/"),
        lambda t: json.dumps(json.dumps(t)[1:-1])[1:-1],
        lambda t: t.replace("/", "\\u002f").replace("+", "\\u002B"),
        html.escape,
        lambda t: html.escape(html.escape(t)),
        lambda t: t.replace("/", "&#x2F;").replace("+", "&#043;").replace("<", "&lt;"),
        lambda t: quote(t, safe="").replace("%2B", "+"),
    ],
)
def test_a_secret_is_masked_however_it_is_written(secret: str, written: object) -> None:
    assert callable(written)
    for part in {secret, secret.partition(" ")[2] or secret, KEY}:
        assert redact.masked(f"no such key: {written(part)}!", [secret]) == "no such key: ***!"


def _written(c: str, way: int) -> str:
    code, percent = ord(c), "".join(f"%{byte:02X}" for byte in c.encode())
    if way >= 6 and c.isalnum():
        return c
    return (
        c,
        percent,
        percent.lower(),
        percent.replace("%", "%25"),
        f"\\u{code:04x}",
        f"&#{code};",
        html.escape(c),
        "\\" + c,
        json.dumps(json.dumps(c)[1:-1])[1:-1],
    )[way]


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=40),
    st.lists(st.integers(0, 8), min_size=40, max_size=40),
)
def test_each_character_may_be_escaped_in_its_own_way(key: str, ways: list[int]) -> None:
    said = "".join(_written(c, way) for c, way in zip(key, ways, strict=False))
    assert redact.masked(f"[{said}]%", [key]) == "[***]%"


def test_a_text_is_masked_before_it_is_cut() -> None:
    for n in range(60):
        text = redact.safe("y" * (60 - n) + KEY, [KEY], 60)
        assert not any(KEY[:i] in text for i in range(3, len(KEY))), text


@pytest.mark.parametrize("secret", ["", "abc", "Basic", "Basic ???", "Basic /w==", "a b", " "])
def test_what_is_not_a_credential_masks_nothing(secret: str) -> None:
    said = "a sentence, Bearing nothing: a b abc"
    assert redact.masked(said, [secret]) == said
