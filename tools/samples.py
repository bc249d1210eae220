"""Writes connectors/testing/samples.json from tests/golden/events.json; `make samples` calls it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.golden.events import golden

FILE = Path(__file__).resolve().parents[1] / "connectors" / "testing" / "samples.json"


def rendered() -> bytes:
    """The required text of the file."""
    found = {name: {"event": _fields(e.event), "context": _fields(e.context)} for name, e in golden().items()}
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def _fields(struct: msgspec.Struct) -> dict[str, object]:
    return {k: v for k, v in msgspec.structs.asdict(struct).items() if v is not None}


if __name__ == "__main__":
    FILE.write_bytes(rendered())
