"""Alibaba Cloud's judge: its published conventions, the table of tests/vendor/alibaba_conventions.py."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Final

from tests.seeds.walker import readable
from tests.vendor.inside import Request, serve

REQUIRES: Final[tuple[str, ...]] = ()
VARIANTS: Final[tuple[dict[str, str], ...]] = (
    {"usage": "all"},
    {"kinds": "seed"},
    {"family": "sls"},
    {"workspace": "default-cms-1-cn-hangzhou", "project": "proj-xtrace-1"},
)
PATHS: Final = ("/api/otlp/traces", "/api/v1/traces", "/apm/trace/opentelemetry/v1/traces")


def problems(request: Request) -> Iterator[str]:
    if request.method != "POST" or not request.path.endswith(PATHS):
        yield f"{request.method} {request.path}: not a request of Alibaba Cloud's endpoints"
        return
    violations = importlib.import_module("tests.vendor.alibaba_conventions").violations
    older = request.settings.get("kinds") == "seed"
    for group in readable(request.body["resourceSpans"]):
        resource = group["resource"]["attributes"]
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                found = violations(resource, span.get("attributes", {}), older=older)
                yield from (f"span {span['spanId']}: {text}" for text in found)


if __name__ == "__main__":
    serve(problems)
