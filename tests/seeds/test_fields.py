"""Every field that the seeds list has its place in TraceEvent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tailrace.codec import schemas
from tailrace.kinds import BODIES
from tailrace.records import Kind
from tests.seeds.tables import (
    BEGIN,
    DERIVED,
    DICTIONARY,
    END,
    GUIDES,
    README,
    WITHOUT_SEED,
    Fields,
    Place,
    fields,
    split,
    tables,
)

FIELDS: Fields = fields()

COUNTS: dict[str, dict[str, tuple[int, ...]]] = {
    "000": {
        "workflow_run": (12, 19, 10),
        "message": (11, 15, 9),
        "moderation": (8, 10, 3),
        "suggested_question": (8, 17, 8),
        "dataset_retrieval": (9, 6, 9),
        "tool": (8, 14, 11),
        "generate_name": (8, 6, 2),
    },
    "001": {
        "workflow_run": (13, 19, 10),
        "message": (13, 15, 10),
        "moderation": (9, 10, 3),
        "suggested_question": (9, 17, 8),
        "dataset_retrieval": (9, 6, 9),
        "tool": (9, 14, 11),
        "generate_name": (8, 6, 2),
    },
    "002": {
        "workflow_run": (0, 18, 10),
        "message": (0, 15, 10),
        "dataset_retrieval": (0, 6, 9),
        "tool": (0, 14, 11),
    },
    "003": {
        "every": (0, 6),
        "workflow_run": (16, 6),
        "node_execution": (20, 15),
        "draft_node_execution": (20, 15),
        "message": (0, 16),
        "tool": (0, 10),
        "moderation": (0, 7),
        "suggested_question": (0, 7),
        "dataset_retrieval": (0, 10),
        "generate_name": (0, 7),
        "prompt_generation": (0, 12),
        "app_created": (0, 3),
        "app_updated": (0, 2),
        "app_deleted": (0, 2),
        "feedback": (0, 5),
        "rehydration_failed": (0, 3),
    },
    "004": {
        "workflow_run": (13, 19, 10),
        "message": (13, 15, 9),
        "moderation": (9, 10, 3),
        "suggested_question": (8, 17, 8),
        "dataset_retrieval": (8, 6, 9),
        "tool": (9, 14, 11),
        "generate_name": (7, 6, 2),
    },
}
"""Fields of each seed's lists, counted in the seeds: row, info and metadata of the guides, span and log of
the dictionary. A field that stands twice in a list counts once."""


def inside(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted paths of a record's fields, bodies included."""
    for field in schema["fields"]:
        path = prefix + field["name"]
        yield path
        kind = field["type"][1] if isinstance(field["type"], list) else field["type"]
        if isinstance(kind, dict) and kind["type"] == "record":
            yield from inside(kind, path + ".")


PATHS = frozenset(inside(schemas.current("TraceEvent")))
LISTS = [
    (seed, kind, name) for seed, kinds in FIELDS.items() for kind, lists in kinds.items() for name in lists
]


def paths(place: Place) -> list[str]:
    return [place] if isinstance(place, str) else place


@pytest.mark.parametrize(("seed", "kind", "name"), LISTS)
def test_every_field_of_a_list_has_a_place_that_the_schema_has(seed: str, kind: str, name: str) -> None:
    entries = FIELDS[seed][kind][name]
    assert entries
    for field, place in entries.items():
        assert place, field
        if isinstance(place, str) and place.startswith(DERIVED):
            assert place.removeprefix(DERIVED).strip(), field
            continue
        for path in paths(place):
            assert path in PATHS, field
            body = path.partition(".")[0]
            if body in BODIES:  # a body is written for its own kind only
                assert body == ("node_execution" if kind == "draft_node_execution" else kind), field


def test_every_list_is_of_a_kind_that_has_a_seed() -> None:
    found = {kind for kinds in FIELDS.values() for kind in kinds} - {"every"}
    assert found <= set(Kind) - WITHOUT_SEED


def test_all_five_seeds_are_there() -> None:
    assert set(FIELDS) == {*GUIDES, DICTIONARY}


@pytest.mark.parametrize("seed", COUNTS)
def test_no_list_is_shorter_than_in_its_seed(seed: str) -> None:
    names = ("span", "log") if seed == DICTIONARY else ("row", "info", "metadata")
    found = {kind: tuple(len(lists.get(name, {})) for name in names) for kind, lists in FIELDS[seed].items()}
    assert found == COUNTS[seed]


def test_the_tables_in_the_readme_are_these() -> None:
    text = README.read_text(encoding="utf-8")
    assert BEGIN in text
    assert END in text
    assert split(text)[1] == tables(), "run python -m tests.seeds.tables"
