"""docs/telemetry.md has every instrument in its tables, and nothing that does not exist."""

from __future__ import annotations

from connectors.delivery.observer import OUTCOMES
from connectors.observe import instruments as of_connect
from streams.observe.instruments import GAUGES, HISTOGRAMS, OF_WORKER, PREFIX, unit
from streams.observe.observed import COUNTS, SIZES
from streams.processing.limits import StateLimits
from streams.processing.state import FRESH, State
from tests.docs.markdown import ROOT, rows

TEXT = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")


def test_every_instrument_is_in_the_tables_with_its_unit() -> None:
    """Counts and sizes are those of the state."""
    state = State(StateLimits(1, 1, 1, 1))
    of_partition = {name: unit(name) for name in COUNTS if hasattr(FRESH, name)}
    of_partition |= {name: unit(name) for name, attribute in SIZES.items() if hasattr(state, attribute)}
    of_partition |= {g.name: g.unit for g in GAUGES}
    want = {PREFIX + name: (of, "p") for name, of in of_partition.items()}
    want |= {PREFIX + name: (of, "") for name, of, _, _ in OF_WORKER}
    want |= {PREFIX + name: (of, "") for name, (of, _, _) in HISTOGRAMS.items()}
    found = {
        cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(TEXT) if cells[0].startswith(f"`{PREFIX}")
    }
    assert found == want


def test_every_instrument_of_the_connectors_is_in_the_table_with_unit_and_labels() -> None:
    want = {i.name: (i.unit, " ".join(i.labels)) for i in (*of_connect.COUNTERS, *of_connect.GAUGES)}
    want |= {name: (unit, " ".join(labels)) for name, (unit, _, labels, _) in of_connect.HISTOGRAMS.items()}
    prefix = f"`{of_connect.PREFIX}"
    found = {
        c[0].strip("`").removeprefix(of_connect.PREFIX): (c[1], c[2])
        for c in rows(TEXT)
        if c[0].startswith(prefix)
    }
    assert found == want
    assert list(found) == list(want), "counters, gauges, histograms"
    text = TEXT.partition("## Connectors")[2]
    assert "The first eleven are counters, the last four histograms" in text
    assert (len(of_connect.COUNTERS), len(of_connect.HISTOGRAMS)) == (11, 4)
    assert all(f"`{outcome}`" in text for outcome in OUTCOMES)
