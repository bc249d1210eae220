"""Reads Alibaba Cloud's answers: its two kinds of 403, pages that are no answer, error messages. Pure."""

from __future__ import annotations

import json
from typing import Final

from connectors.otlp.answers import error_message, is_web_page
from connectors.sdk import policy
from connectors.sdk.http import Response
from connectors.sdk.policy import Table

STATUSES: Final[Table] = policy.table()
"""Alibaba Cloud needs no differences from the default table, but see `over_quota`."""
QUOTAS: Final = ("WriteQuotaExceed", "ShardWriteQuotaExceed")
"""Error codes of the log service, below CMS 2.0, that come with a 403 and end by themselves."""
_READ: Final = 4000
"""Bytes of an answer that are searched."""


def over_quota(answer: Response) -> str | None:
    """The error code of a 403 that says that the write quota is used up for now; None for any other answer.

    The longer code is looked for first, because it contains the shorter one.
    """
    if answer.status != 403:
        return None
    body = answer.body[:_READ].decode("utf-8", "replace") + answer.headers.get("x-log-errorcode", "")
    return next((code for code in reversed(QUOTAS) if code in body), None)


def no_receiver(answer: Response) -> str | None:
    """Why a 2xx does not come from a receiver of traces; None if it may.

    Such a page would make every span count as delivered.
    """
    if answer.status // 100 == 2 and is_web_page(answer):
        return f"not_otlp (status {answer.status}): the answer is a web page, such as a login"
    return None


def error_text(answer: Response) -> str:
    """The error message in an answer: `errorCode: errorMessage` of the log service, else as OTLP has it."""
    if "json" in answer.headers.get("content-type", ""):
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict) and isinstance(document.get("errorMessage"), str):
            code = document.get("errorCode")
            return (
                f"{code}: {document['errorMessage']}" if isinstance(code, str) else document["errorMessage"]
            )
    return error_message(answer)
