"""Masks personal data and credentials in text and JSON text, for example as ``[email]``. Pure.

Every pattern takes time linear in the text. Matches are found by their form only: a pattern cannot
recognise a person's name or a street.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from tailrace.errors import ConfigError

DEPTH: Final = 5
"""Levels of JSON strings inside JSON strings that are parsed as JSON."""
PASSES: Final = 8
"""A replacement may create another match; the text is searched this many times at most."""

Match = re.Match[str]
Replace = str | Callable[[Match], str]

_API_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,20000}+(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    r"|(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}+"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|glpat-[\w-]{20,}+|xox[abeoprs]-[\w-]{10,}+"
    r"|hf_[A-Za-z0-9]{20,}+|AIza[\w-]{30,}+|ya29\.[\w-]{20,}+|(?:app|dataset)-[A-Za-z0-9]{24,}+)"
)
_AWS_KEY: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{16,}+"
    r"|(?i:(aws_?secret(?:_?access)?_?key[^A-Za-z0-9/+]{1,8}))[A-Za-z0-9/+]{40,}+"
)
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?"
    r"|(?i:(?<![A-Za-z0-9])(bearer\s{1,4})(?=[\w.~+/=-]*\d|[\w.~+/=-]{20}))[\w.~+/=-]{8,}+"
    r"|(?i:(?<![A-Za-z0-9])(authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?basic\s{1,4}))[A-Za-z0-9+/=]{8,}+"
)
_EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]++@(?:[\w-]++\.)+[\w-]{2,}+")
_IBAN: Final = re.compile(r"[A-Z](?<![A-Za-z0-9].)[A-Z]\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_DIGITS: Final = re.compile(r"\d(?<![\w.-].)(?:[ -]?\d){11,}+(?!\w)")
_IPV4: Final = re.compile(r"\d(?<![\w.].)\d{0,2}+(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IPV6: Final = re.compile(
    r"[\da-fA-F:](?<![\w:.].)(?=[\da-fA-F]{0,3}:|:)[\da-fA-F:]{2,44}+(?:\.\d{1,3}){0,3}(?![\w:])"
)
_IPV6_HINT: Final = re.compile(r":[\da-fA-F]{0,4}:")
_PHONES: Final = (
    # international
    re.compile(r"\+(?<![\w+].)\d(?:[ ()./-]{0,2}\d){6,14}(?!\w)"),
    # North American
    re.compile(r"[(\d](?<![\w.,-].)(?:(?<=\()\d{3}\) ?|(?<=\d)\d\d[-. ])\d{3}[-. ]\d{4}(?![\w-]|\.\d)"),
    # national, with the trunk prefix
    re.compile(
        r"[(0](?<![\w.,-].)(?:(?<=\()0\d{1,4}\)|(?<=0)\d{1,4})[ /-]\d{3,4}(?:[ -]?\d){2,6}(?![\w-]|[.,]\d)"
    ),
)


_parse: Final = json.JSONDecoder(parse_int=len, parse_float=len).decode


def is_json(text: str) -> bool:
    """Whether `text` is JSON; lone surrogates and numbers of any length are accepted.

    Text that is nested too deep to tell counts as JSON.
    """
    try:
        _parse(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of a payment card's number."""
    total = 0
    for i, c in enumerate(reversed(digits)):
        n = int(c) * (1 + i % 2)
        total += n - 9 if n > 9 else n
    return total % 10 == 0


_ISSUERS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}|(?:5[06-9]|6\d)\d{10,17}"
)
"""Lengths and first digits of the card networks. Without them every tenth number would pass as a card's."""

GROUPS: Final = 6
"""Most groups that a card's number is written in."""
_GROUP: Final = re.compile(r"\d+")


def _cards(found: Match) -> str:
    """Replaces the card numbers in a run of digit groups.

    A card number consists of at most `GROUPS` groups.
    """
    text: str = found.group()
    groups = [(m.start(), m.end()) for m in _GROUP.finditer(text)]
    out, at, i = "", 0, 0
    while i < len(groups):
        for j in range(min(i + GROUPS, len(groups)) - 1, i - 1, -1):
            start, end = groups[i][0], groups[j][1]
            digits = text[start:end].replace(" ", "").replace("-", "") if end - start < 30 else ""
            if _ISSUERS.fullmatch(digits) and luhn(digits):
                out += text[at:start] + "[credit_card]"
                at, i = end, j
                break
        i += 1
    return out + text[at:]


def _iban(found: Match) -> str:
    """Replaces the longest prefix with valid check digits: capitals may follow an IBAN."""
    text: str = found.group()
    for end in range(len(text), 14, -1):
        if end < len(text) and text[end] != " ":
            continue
        compact = text[:end].replace(" ", "")
        if len(compact) >= 15 and int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1:
            return "[iban]" + text[end:]
    return text


def _address(found: Match) -> str:
    text: str = found.group()
    bare = text.rstrip(":") if not text.endswith("::") else text
    try:
        ip_address(bare)
    except ValueError:
        return text
    return text if bare.isalpha() or not any(c.isdigit() for c in bare) else "[ip]" + text[len(bare) :]


Rule = tuple[tuple[str, ...] | re.Pattern[str], re.Pattern[str], Replace]
"""One mask: when to try it, the pattern, and the replacement.

It is tried if the text contains one of the given texts (in lower case) or matches the given pattern; if
there are none, if the text contains a digit.
"""
_DIGIT: Final = re.compile(r"\d")

BUILT_IN: Final[Mapping[str, tuple[Rule, ...]]] = {
    "api_key": (
        (
            (
                "sk-",
                "sk_",
                "pk-",
                "pk_",
                "rk-",
                "rk_",
                "gh",
                "glpat-",
                "xox",
                "hf_",
                "aiza",
                "ya29.",
                "app-",
                "dataset-",
                "-----begin",
            ),
            _API_KEY,
            "[api_key]",
        ),
    ),
    "aws_key": (
        (
            ("akia", "asia", "agpa", "aida", "aroa", "anpa", "anva", "abia", "acca", "secret"),
            _AWS_KEY,
            lambda m: (m.group(1) or "") + "[aws_key]",
        ),
    ),
    "token": ((("eyj", "bearer", "basic"), _TOKEN, lambda m: (m.group(1) or m.group(2) or "") + "[token]"),),
    "email": ((("@",), _EMAIL, "[email]"),),
    "iban": (((), _IBAN, _iban),),
    "credit_card": (((), _DIGITS, _cards),),
    "ip": ((_IPV6_HINT, _IPV6, _address), ((".",), _IPV4, _address)),
    "phone": tuple(((), phone, "[phone]") for phone in _PHONES),
}
"""In the order in which they are applied."""

_TOKENS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?\d[\d.eE+-]*+', re.DOTALL)
"""Strings and numbers of a JSON text."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Masks:
    """The masks to apply.

    Args:
        names: of `BUILT_IN`.
        own: name -> regular expression.

    Raises:
        ConfigError: names the setting.
    """

    def __init__(self, names: Iterable[str] = BUILT_IN, own: Mapping[str, str] | None = None) -> None:
        chosen = frozenset(names)
        if unknown := chosen.difference(BUILT_IN):
            raise ConfigError(
                f"mask: there is no mask {', '.join(sorted(unknown))}; known are {', '.join(BUILT_IN)}"
            )
        self._own = tuple(_compiled(name, pattern) for name, pattern in (own or {}).items())
        marks = [f"[{name}]" for name in (*BUILT_IN, *(own or {}))]
        for name, (pattern, _) in zip(own or {}, self._own, strict=True):
            if any(pattern.search(text) for text in ("", *marks)):
                raise ConfigError(
                    f"mask_patterns.{name}: must not match the empty text or a replacement such as [{name}]"
                )
        self._rules = tuple(rule for name, rules in BUILT_IN.items() if name in chosen for rule in rules)

    def _once(self, text: str) -> str:
        for pattern, mark in self._own:
            text = pattern.sub(mark, text)
        small = text.lower()
        digits = _DIGIT.search(text) is not None
        for hints, pattern, replace in self._rules:
            if not isinstance(hints, tuple):
                worth = hints.search(text) is not None
            else:
                worth = any(hint in small for hint in hints) if hints else digits
            if worth:
                text = pattern.sub(replace, text)
        return text

    def text(self, text: str) -> str:
        """Plain text, masked. Idempotent."""
        for _ in range(PASSES):
            before, text = text, self._once(text)
            if text == before:
                break
        return text

    def json(self, text: str, depth: int = DEPTH) -> str:
        """JSON text, masked inside its strings, including member names.

        A masked number becomes a string. Everything else is kept as written, and the result is valid
        JSON. Text that is not JSON is masked as plain text.
        """
        if not self._own and "\\" not in text and self._once(text) == text:
            return text
        if not is_json(text):
            return self.text(text)

        def token(found: Match) -> str:
            raw: str = found.group()
            return self._string(raw, depth) if raw[0] == '"' else self._number(raw)

        return _TOKENS.sub(token, text)

    def _string(self, raw: str, depth: int) -> str:
        try:
            value: Any = json.loads(raw, strict=False) if "\\" in raw else raw[1:-1]
        except ValueError:
            return raw
        inside = depth > 0 and value.lstrip()[:1] in ("{", "[") and is_json(value)
        masked = self.json(value, depth - 1) if inside else self.text(value)
        return raw if masked == value else quoted(masked)

    def _number(self, raw: str) -> str:
        if not raw.isdigit():
            return raw
        for pattern, mark in self._own:
            if pattern.fullmatch(raw):
                return quoted(mark)
        if len(raw) >= 12 and (masked := self.text(raw)) != raw:
            return quoted(masked)
        return raw


def quoted(text: str) -> str:
    """A JSON string. Lone surrogates, which JSON allows and UTF-8 does not, stay escaped."""
    return json.dumps(text, ensure_ascii=text.isascii() or any("\ud800" <= c <= "\udfff" for c in text))


def _compiled(name: str, pattern: str) -> tuple[re.Pattern[str], str]:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"mask_patterns: {name!r} is not a valid name; use at most 40 small letters, digits and _"
        )
    try:
        return re.compile(pattern), f"[{name}]"
    except (re.error, RecursionError, OverflowError) as e:
        raise ConfigError(f"mask_patterns.{name}: is not a valid regular expression: {e}") from None
