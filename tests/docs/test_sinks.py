"""docs/sinks: every sink has a page with all settings and defaults, and the status table of its policy."""

from __future__ import annotations

import json
import re

import pytest

from connectors.config.instances import describe, installed, sink_class
from connectors.sdk.contract import spec_of
from connectors.sdk.policy import Action, action
from connectors.sinks.otlp import sink as otlp
from tests.connectors.vendors import VENDORS
from tests.docs.markdown import ROOT, rows

OURS = sorted(name for name, found in installed().items() if found.value.startswith("connectors."))


def page(name: str) -> str:
    return (ROOT / "docs" / "sinks" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OURS)
def test_a_page_has_every_setting_with_its_default(name: str) -> None:
    want = {
        row["name"]: json.dumps(row["default"]) if "default" in row else "required"
        for row in describe(spec_of(sink_class(name, name)))
    }
    found = {
        cells[0].strip("`"): cells[1].strip("`")
        for cells in rows(page(name))
        if cells[0].strip("`") in want and len(cells) == 3
    }
    assert found == want


@pytest.mark.parametrize("name", OURS)
def test_a_page_has_the_limits_of_a_batch(name: str) -> None:
    spec = spec_of(sink_class(name, name))
    assert f"{spec.max_records:,} " in page(name)
    assert f"{spec.max_bytes:,}" in page(name)


@pytest.mark.parametrize("name", VENDORS)
def test_a_status_table_is_the_policy(name: str) -> None:
    table = VENDORS[name].statuses.table
    documented: dict[int, Action] = {}
    classes: dict[int, Action] = {}
    for cells in rows(page(name)):
        if len(cells) != 3 or cells[1] not in {*map(str, Action)}:
            continue
        for part in cells[0].replace("other ", "").split(", "):
            if part.isdigit():
                documented[int(part)] = Action(cells[1])
            elif re.fullmatch(r"\dxx", part):
                classes[int(part[0])] = Action(cells[1])
    assert set(classes) == {2, 3, 4, 5}
    for status in range(200, 600):
        assert documented.get(status, classes[status // 100]) == action(table, status), status


def test_the_otlp_page_has_the_variables_of_seed_003() -> None:
    text = page("otlp")
    assert all(f"`{name}`" in text for name in otlp.VARIABLES)


def test_what_the_otlp_sink_sends_as_spans_is_in_its_table() -> None:
    from connectors.sinks.otlp.mapping import KINDS, Span

    text = page("otlp")
    first = {
        cells[0].strip("`") for cells in rows(text.partition("## What becomes a span")[2].partition("###")[0])
    }
    assert {str(k) for k, how in KINDS.items() if isinstance(how, Span)} <= first
