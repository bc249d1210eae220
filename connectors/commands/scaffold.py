"""The files of the package that `tailrace sinks new` creates. Pure.

It holds one sink, its entry point, and its test by the conformance kit.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Final

from tailrace.errors import ConfigError
from tailrace.kinds import FACTS

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,39}", re.ASCII)

MODULE: Final = '''"""Traces to {title}."""

from connectors import Enriched, Skip, http_sink

LEFT_OUT = {{{left_out}}}


@http_sink("{name}", path="/v1/events", form="array")
def {name}(record: Enriched) -> dict[str, object] | Skip:
    """Operations to {title}."""
    event, context = record.event, record.context
    if event.kind in LEFT_OUT:
        return Skip("no_operation")
    return {{
        "id": context.span_id.hex(),
        "trace": context.message_trace_id.hex(),
        "parent": context.parent_span_id.hex() if context.parent_span_id else None,
        "kind": event.kind,
        "name": event.name,
        "start_us": event.started_at,
        "end_us": event.ended_at,
        "error": event.error,
        "input": event.inputs,
        "output": event.outputs,
    }}
'''
TEST: Final = """from {module} import {name}

from connectors.testing import conformance


class Test{title}(conformance.SinkConformance):
    sink, settings = {name}, {{"endpoint": "{{endpoint}}", "api_key": "{{secret}}"}}
"""
PROJECT: Final = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{package}"
version = "0.1.0"
description = "A tailrace sink: traces to {title}."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["tailrace[connectors]"]

[project.optional-dependencies]
test = ["pytest>=8.3", "hypothesis>=6.100"]

[project.entry-points."tailrace.sinks"]
{name} = "{module}:{name}"

[tool.setuptools]
py-modules = ["{module}"]
"""
README: Final = """# {package}

A tailrace sink: traces to {title}. `{module}.py` maps an event to what is sent.

```console
pip install -e '.[test]'
pytest                                              # the conformance kit
tailrace sinks ls                                   # its settings
tailrace render {name} events.jsonl --set sinks.{name}.endpoint=https://{name}.example
tailrace check {name} --set sinks.{name}.endpoint=https://{name}.example
tailrace connect {name} --set sinks.{name}.endpoint=https://{name}.example
```

Set the key in `TAILRACE_SINKS_{variable}_API_KEY`, or name a file that holds it in
`TAILRACE_SINKS_{variable}_API_KEY_FILE`.
"""


def files(name: str) -> Mapping[str, str]:
    """Path in the package's folder -> text. Raises `ConfigError` if `name` is not valid."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name}: is not a valid sink name; use small letters and digits, starting with a letter, "
            "for example acme"
        )
    words = {
        "name": name,
        "module": f"{name}_sink",
        "package": folder(name),
        "variable": name.upper(),
        "title": name.capitalize(),
        "left_out": ", ".join(f'"{kind}"' for kind, facts in FACTS.items() if not facts.traced),
    }
    return {
        "pyproject.toml": PROJECT.format(**words),
        f"{name}_sink.py": MODULE.format(**words),
        f"tests/test_{name}_sink.py": TEST.format(**words),
        "README.md": README.format(**words),
    }


def folder(name: str) -> str:
    """Name of the package, and of its folder."""
    return f"tailrace-sink-{name}"
