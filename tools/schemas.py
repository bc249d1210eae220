"""Generates Python code from schemas/*.avsc, and checks that it is up to date.

    python tools/schemas.py          write tailrace/records.py, tailrace/_schema_history.py and
                                     streams/processing/header_fields.py
    python tools/schemas.py --check  fail if they, or schemas/history, do not match the schemas

`make schemas` and `make schemas-check` call it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import keyword
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastavro.schema import parse_schema

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SCHEMAS = ROOT / "schemas"
NOTE = "Generated from schemas/*.avsc by tools/schemas.py (`make schemas`). Do not edit."
PYTHON = {
    "string": "str",
    "bytes": "bytes",
    "int": "int",
    "long": "int",
    "boolean": "bool",
    "double": "float",
    "float": "float",
    "null": "None",
}


def load() -> dict[str, dict[str, Any]]:
    return {p.stem: json.loads(p.read_text()) for p in sorted(SCHEMAS.glob("*.avsc"))}


def versions(name: str, folder: Path = SCHEMAS) -> list[Path]:
    return sorted((folder / "history" / name).glob("*.avsc"), key=lambda p: int(p.stem))


def python_type(t: Any) -> str:
    if isinstance(t, list):
        return " | ".join(python_type(x) for x in sorted(t, key=lambda x: x == "null"))
    if isinstance(t, str):
        return PYTHON.get(t) or {"OtelSpanId": "bytes", "OtelTraceId": "bytes"}.get(t, t)
    kind = t["type"]
    if kind == "array":
        return f"Sequence[{python_type(t['items'])}]"
    if kind == "map":
        return f"Mapping[str, {python_type(t['values'])}]"
    if kind == "fixed":
        return "bytes"
    return t["name"] if kind in ("enum", "record") else PYTHON[kind]


def default(field: dict[str, Any]) -> str | None:
    t = field["type"]
    if "default" not in field:
        return None
    if isinstance(t, dict) and t["type"] in ("array", "map"):
        return "()" if t["type"] == "array" else "msgspec.field(default_factory=dict)"
    return repr(field["default"])


def named(t: Any) -> Iterator[dict[str, Any]]:
    """Enums and records inside a type, inner ones first."""
    if isinstance(t, list):
        for x in t:
            yield from named(x)
    elif isinstance(t, dict):
        for key in ("items", "values"):
            if key in t:
                yield from named(t[key])
        for field in t.get("fields", ()):
            yield from named(field["type"])
        if t["type"] in ("enum", "record"):
            yield t


def doc(text: str, indent: str) -> str:
    return "\n".join(textwrap.wrap(text, 116 - len(indent), initial_indent=indent, subsequent_indent=indent))


def enum(t: dict[str, Any]) -> str:
    lines = [f"class {t['name']}(enum.StrEnum):"]
    lines += [f'    {s.upper() + ("_" if keyword.iskeyword(s) else "")} = "{s}"' for s in t["symbols"]]
    return "\n".join(lines)


def record(t: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"class {t['name']}(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):"
    ]
    lines += [doc(f'"""{t["doc"]}"""', "    "), ""]
    for field in t["fields"]:
        name = field["name"]
        kind = python_type(field["type"])
        value: str | None
        if t["name"] == "TraceEvent" and name in ("event_id", "source_id", "published_at"):
            kind, value = f"{kind} | None", "None"
        elif field.get("content") == "json":
            kind, value = "Content", "None"
        else:
            value = default(field)
        lines.append(f"    {name}: {kind}" + ("" if value is None else f" = {value}"))
        lines.append(doc(f'"""{field.get("doc", "")}"""', "    "))
    return "\n".join(lines)


def records_module(schemas: dict[str, dict[str, Any]]) -> str:
    seen: dict[str, str] = {}
    for schema in schemas.values():
        for t in named(schema):
            seen.setdefault(t["name"], enum(t) if t["type"] == "enum" else record(t, schemas))
    names = [n for n in seen if "msgspec.Struct" in seen[n]]
    head = (
        f'"""Every record type as a Python class.\n\n{NOTE}\n'
        'Instances hold no cycles, so the garbage collector does not track them (gc=False).\n"""'
    )
    body = "\n\n\n".join(seen.values())
    table = (
        "BY_NAME: dict[str, type[msgspec.Struct]] = {\n"
        + "".join(f'    "{n}": {n},\n' for n in names)
        + "}\n"
    )
    return (
        f"{head}\n\nfrom __future__ import annotations\n\nimport enum\nfrom collections.abc import Mapping, "
        "Sequence\nfrom typing import Any\n\nimport msgspec\n\n"
        'Content = Any\n"""Anything that JSON can represent. '
        'A `tailrace.JsonText` is JSON already; a plain str becomes a JSON string."""\n\n\n'
        f'{body}\n\n\n{table}"""Class by record name."""\n'
    )


def history_module(schemas: dict[str, dict[str, Any]]) -> str:
    lines = [
        f'"""Texts of all schema versions, oldest first. {NOTE}"""',
        "",
        "HISTORY: dict[str, tuple[str, ...]] = {",
    ]
    for name in schemas:
        lines.append(f'    "{name}": (')
        for path in versions(name):
            text = json.dumps(strip(json.loads(path.read_text())), separators=(",", ":"), ensure_ascii=False)
            lines += [
                f"        {chunk!r}"
                for chunk in textwrap.wrap(text, 100, drop_whitespace=False, break_on_hyphens=False)
            ]
            lines[-1] += ","
        lines.append("    ),")
    return "\n".join([*lines, "}", ""])


def strip(t: Any) -> Any:
    """Without docs and logical types: what readers and writers need."""
    if isinstance(t, dict):
        return {k: strip(v) for k, v in t.items() if k not in ("doc", "logicalType")}
    return [strip(x) for x in t] if isinstance(t, list) else t


def formatted(code: str, path: Path) -> str:
    import subprocess

    ran = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"],
        input=code,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def problems(schemas: dict[str, dict[str, Any]], folder: Path = SCHEMAS) -> Iterator[str]:
    """What is wrong with the schemas and their history.

    Every change must be in the history, and every version must be able to read every other
    (FULL_TRANSITIVE, and more).
    """
    from tools import header
    from tools.evolution import broken

    for name, schema in schemas.items():
        parse_schema(json.loads(json.dumps(schema)))
        for record_ in named(schema):
            for field in record_.get("fields", ()):
                if not field.get("doc"):
                    yield f"schemas/{name}.avsc: {record_['name']}.{field['name']} has no doc"
        past = versions(name, folder)
        texts = [json.loads(p.read_text()) for p in past]
        if not past:
            yield f"schemas/history/{name}/1.avsc is missing: copy schemas/{name}.avsc there"
        elif strip(texts[-1]) != strip(schema):
            yield f"schemas/{name}.avsc changed: add it as schemas/history/{name}/{len(past) + 1}.avsc"
        if schema.get("header_last") not in (None, *(f["name"] for f in schema["fields"])):
            yield f"schemas/{name}.avsc: header_last is not the name of a field"
        if name == "TraceEvent":
            yield from header.problems(schema)
        if [p.stem for p in past] != [str(i + 1) for i in range(len(past))]:
            yield f"schemas/history/{name} must be numbered 1, 2, ... without gaps"
        for (old, was), (new, now) in itertools.combinations(enumerate(texts, 1), 2):
            for problem in broken(was, now):
                yield f"schemas/{name}.avsc, versions {old} and {new}: {problem}"


def main() -> int:
    parser = argparse.ArgumentParser(description=re.sub(r"\s+", " ", str(__doc__).split("\n\n")[0]))
    parser.add_argument(
        "--check", action="store_true", help="only compare; exit 1 if anything is out of date"
    )
    check = parser.parse_args().check
    from tools import header

    schemas = load()
    wrong = list(problems(schemas))
    targets = {
        ROOT / "tailrace" / "records.py": records_module(schemas),
        ROOT / "tailrace" / "_schema_history.py": history_module(schemas),
        ROOT / "streams" / "processing" / "header_fields.py": header.module(schemas["TraceEvent"], NOTE),
    }
    for path, code in targets.items():
        text = formatted(code, path)
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong.append(f"{path.relative_to(ROOT)} is out of date: run `make schemas`")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
