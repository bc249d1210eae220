"""fields.toml as the Markdown tables of schemas/README.md: `python -m tests.seeds.tables` writes them
there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = ROOT / "schemas" / "README.md"
BEGIN: Final = "<!-- tables: begin (python -m tests.seeds.tables) -->\n"
END: Final = "<!-- tables: end -->\n"

Place = str | list[str]
"""Path in TraceEvent, several paths, or "derived: how"."""
Fields = dict[str, dict[str, dict[str, dict[str, Place]]]]
"""Seed -> kind -> list -> field of the seed -> place."""

DERIVED: Final = "derived: "
GUIDES: Final = {"000": "Opik", "001": "Langfuse", "002": "Alibaba", "004": "Weave"}
DICTIONARY: Final = "003"
WITHOUT_SEED: Final = frozenset({"unknown", "link", "span", "evaluation"})
"""Kinds that are ours: what readers make of newer ones, a control record, operations of other sources than
Dify, and results of evaluators."""
VENDORS_WITHOUT_SEED: Final[frozenset[str]] = frozenset()
"""Sinks of vendors for which there is no seed, and so no YAML file here."""
LISTS: Final = {"row": "r", "info": "i", "metadata": "m"}


def fields() -> Fields:
    with (ROOT / "tests" / "seeds" / "fields.toml").open("rb") as file:
        found: Fields = tomllib.load(file)
    return found


def shown(place: Place) -> str:
    if isinstance(place, str):
        return place.removeprefix(DERIVED) if place.startswith(DERIVED) else f"`{place}`"
    return ", ".join(f"`{p}`" for p in place)


def guide_tables(found: Fields) -> Iterator[str]:
    """One table a kind over the four guides; letters say in which of a guide's lists a field stands."""
    kinds = dict.fromkeys(kind for seed in GUIDES for kind in found[seed])
    for kind in kinds:
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for seed in GUIDES:
            for name, entries in found[seed].get(kind, {}).items():
                for field, place in entries.items():
                    cell = rows.setdefault((field, shown(place)), {})
                    cell[seed] = cell.get(seed, "") + LISTS[name]
        yield (
            f"#### {kind}\n\n| field | TraceEvent | {' | '.join(GUIDES.values())} "
            f"|\n|---|---|{'---|' * len(GUIDES)}\n"
        )
        for (field, place), cell in rows.items():
            yield f"| `{field}` | {place} | {' | '.join(cell.get(seed, '') for seed in GUIDES)} |\n"
        yield "\n"


def dictionary_tables(found: Fields) -> Iterator[str]:
    """One table a kind of seed 003; drafts only where they differ from node executions."""
    for kind, lists in found[DICTIONARY].items():
        base = found[DICTIONARY]["node_execution"] if kind == "draft_node_execution" else {}
        rows: dict[tuple[str, str], list[str]] = {}
        for name, entries in lists.items():
            for field, place in entries.items():
                if base.get(name, {}).get(field) != place:
                    rows.setdefault((field, shown(place)), []).append(name)
        yield f"#### {kind}\n\n"
        if base:
            yield "As node_execution, but:\n\n"
        yield "| field | TraceEvent | list |\n|---|---|---|\n"
        for (field, place), names in rows.items():
            yield f"| `{field}` | {place} | {', '.join(names)} |\n"
        yield "\n"


def tables() -> str:
    found = fields()
    guides = "".join(guide_tables(found))
    dictionary = "".join(dictionary_tables(found))
    return (
        "\n### The guides: seeds 000, 001, 002, 004\n\n"
        "r: the table from Dify's field to the vendor's; i: the list “Trace Info”; m: the metadata list in "
        "it.\n\n"
        f"{guides}### The data dictionary: seed 003\n\n"
        "span: section 4; log: section 8; labels: sections 6 and 7; resource: section 3.\n\n"
        f"{dictionary}"
    )


def split(text: str) -> tuple[str, str, str]:
    """What is before, between and after the two markers. ValueError if one is missing."""
    before, rest = text.split(BEGIN)
    between, after = rest.split(END)
    return before, between, after


def main() -> None:
    before, _, after = split(README.read_text(encoding="utf-8"))
    README.write_text(before + BEGIN + tables() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
