"""docs/privacy.md has every setting, policy, mask, reason and content field, and nothing else."""

from __future__ import annotations

import re

import msgspec

from connectors.filters import record_filter as admission
from connectors.filters.content import PATHS, POLICIES
from connectors.filters.masking import BUILT_IN
from connectors.filters.settings import FilterSettings
from connectors.sdk.contract import Skip
from tests.docs.markdown import ROOT, rows

TEXT = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_is_in_the_table() -> None:
    fields = {f.name for f in msgspec.structs.fields(FilterSettings)}
    found = [name for cells in rows(TEXT) if len(cells) == 3 for name in names(cells[0])]
    assert set(found) == fields
    assert len(found) == len(fields)


def test_every_policy_and_every_mask_is_named() -> None:
    assert [cells[0].strip("`") for cells in rows(TEXT) if len(cells) == 2] == list(POLICIES)
    (cells,) = [cells for cells in rows(TEXT) if cells[0] == "`mask`"]
    assert set(names(cells[2])) == set(BUILT_IN)


def test_every_content_field_is_listed() -> None:
    listed = TEXT.partition("- of the event:")[2].partition("Ids, users")[0]
    assert {n for n in names(listed) if n in PATHS} == set(PATHS)
    assert {n for n in names(listed) if "." in n} <= set(PATHS)


def test_every_reason_is_named() -> None:
    reasons = {value.reason for value in vars(admission).values() if isinstance(value, Skip)}
    assert len(reasons) == 7
    assert reasons <= set(names(TEXT.partition("by reason:")[2].partition("## Content")[0]))
