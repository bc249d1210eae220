"""docs/settings.md has every setting with its variable and default, docs/install.md every extra."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import msgspec

from connectors.config.instances import Common, installed
from tailrace.kafka_security import FOLLOWED
from tailrace.settings import Settings
from tests.docs.markdown import ROOT, rows

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
SECTIONS = {f.name: f.type for f in msgspec.structs.fields(Settings) if f.name != "sinks"}


def _default(field: Any) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return json.dumps(value)


def test_every_setting_is_in_the_table_with_its_variable_and_default() -> None:
    want = {
        f"{section}.{field.name}": (f"TAILRACE_{section}_{field.name}".upper(), _default(field))
        for section, cls in SECTIONS.items()
        for field in msgspec.structs.fields(cls)
    }
    found = {
        cells[0].strip("`"): (cells[1].strip("`"), cells[2].strip("`"))
        for cells in rows(PAGE)
        if cells[0].startswith("`") and cells[0].strip("`").partition(".")[0] in SECTIONS and len(cells) == 4
    }
    assert found == want


def test_what_every_sink_takes_is_in_the_table() -> None:
    found = {cells[0] for cells in rows(PAGE) if cells[0].startswith("`sinks.<name>.")}
    assert found == {f"`sinks.<name>.{f.name}`" for f in msgspec.structs.fields(Common)} | {
        "`sinks.<name>.…`",
        "`sinks.<name>.<secret>_file`",
    }


def test_every_security_property_that_the_processor_follows_is_in_the_table() -> None:
    part = PAGE.partition("### Properties of the Kafka clients")[2].partition("\n## ")[0]
    assert {name for cells in rows(part) for name in re.findall(r"`([^`]+)`", cells[0])} == set(FOLLOWED)


def test_every_built_in_sink_is_among_the_types() -> None:
    ours = {name for name, found in installed().items() if found.value.startswith("connectors.")}
    [told] = [cells[3] for cells in rows(PAGE) if cells[0] == "`sinks.<name>.type`"]
    assert set(re.findall(r"`(\w+)`", told)) == ours


def test_every_extra_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert {cells[0].strip("`") for cells in rows(page)} == set(project["optional-dependencies"])
