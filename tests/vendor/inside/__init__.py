"""One judge a vendor. A module runs as `python -m tests.vendor.inside.<vendor>` in the vendor's environment.

It reads requests as JSON lines and prints for each a JSON list of what is wrong with it:

    {"method": "PUT", "path": "/api/v1/private/traces/feedback-scores", "body": {…}}
    []

A module has `REQUIRES`, what pip installs into the environment, as `venvs.python` takes it (nothing: the
module runs in this project's), and `problems(request)`, which imports the vendor's package when it is called:
the tests import the module in their own environment. `VARIANTS` are settings with which requests are made
besides those of tests/connectors/vendors.py. OTLP requests, to whatever vendor, are judged by the module
`otlp` too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Request(NamedTuple):
    """One request of a sink. A protobuf body is the message's JSON document."""

    method: str
    path: str
    body: Any
    raw: str = ""
    """A protobuf body as it was sent, in base64."""
    settings: Mapping[str, str] = {}
    """One of the judge's VARIANTS, with which it was made."""

    def matches(self, method: str, end: str) -> bool:
        return self.method == method and self.path.endswith(end)


Judge = Callable[[Request], Iterator[str]]


def serve(problems: Judge) -> None:
    """Judges the requests on standard input. Ends with 1 if there are none."""
    lines = 0
    for line in sys.stdin:
        request = Request(**json.loads(line))
        print(json.dumps(list(problems(request))), flush=True)
        lines += 1
    sys.exit(0 if lines else 1)
