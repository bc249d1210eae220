"""Tokens and prices, from where Dify has them. Pure."""

from __future__ import annotations

from typing import Any, Final

from ingress.dify.info import Info

_CODES: Final = {"RMB": "CNY"}
"""What model providers write for a currency -> its code by ISO 4217."""


def currency(info: Info, name: str = "currency") -> str | None:
    """The code of a currency; None if it is not three letters."""
    found = info.text(name)
    if found is None:
        return None
    code = _CODES.get(found.strip().upper(), found.strip().upper())
    if len(code) == 3 and code.isascii() and code.isalpha():
        return code
    info.unread(name, "is not a currency's code")
    return None


def of_usage(usage: Info) -> dict[str, Any]:
    """What a model's usage, as Dify's engine writes it, says."""
    found: dict[str, Any] = {
        "input_tokens": usage.count("prompt_tokens"),
        "output_tokens": usage.count("completion_tokens"),
        "total_tokens": usage.count("total_tokens"),
        "time_to_first_token": usage.seconds("time_to_first_token"),
    }
    if (usage.count("total_tokens") or 0) > 0:
        found.update(
            input_price=usage.price("prompt_price"),
            output_price=usage.price("completion_price"),
            total_price=usage.price("total_price"),
            currency=currency(usage),
        )
    return {name: value for name, value in found.items() if value is not None}


def without_zeros(fields: dict[str, Any], info: Info) -> None:
    """Removes counts and prices of 0 from an operation that ran no model: they are Dify's defaults."""
    names = ("input_tokens", "output_tokens", "total_tokens", "input_price", "output_price", "total_price")
    if any(fields.get(name) not in (None, 0, "0", "0.0") for name in names):
        return
    for name in names:
        fields.pop(name, None)
    if fields.pop("currency", None) is not None:
        info.unread("currency", "is that of a price of 0")
