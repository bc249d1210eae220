"""docs/telemetry.md: every instrument is in its tables, and nothing that isn't there."""

from __future__ import annotations

from streams.limits import Limits
from streams.observe.instruments import GAUGES, HISTOGRAMS, OF_WORKER, PREFIX, unit
from streams.observe.observed import COUNTS, SIZES
from streams.state import FRESH, State
from tests.docs.markdown import ROOT, rows

TEXT = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")


def test_every_instrument_is_in_the_tables_with_its_unit() -> None:
    """Of counts and sizes those that the state has."""
    state = State(Limits(1, 1, 1, 1))
    of_partition = {name: unit(name) for name in COUNTS if hasattr(FRESH, name)}
    of_partition |= {name: unit(name) for name, attribute in SIZES.items() if hasattr(state, attribute)}
    of_partition |= {g.name: g.unit for g in GAUGES}
    want = {PREFIX + name: (of, "p") for name, of in of_partition.items()}
    want |= {PREFIX + name: (of, "") for name, of, _, _ in OF_WORKER}
    want |= {PREFIX + name: (of, "") for name, (of, _, _) in HISTOGRAMS.items()}
    found = {cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(TEXT) if cells[0].startswith(f"`{PREFIX}")}
    assert found == want
