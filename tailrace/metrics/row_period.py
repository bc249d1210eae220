"""The event time that one row of `trace.metrics` covers. The value is defined only here.

A minute must be a multiple of it. To change it, create new topics: the keys of `trace.metrics` and
`trace.state` contain the number of the period since 1970.
"""

from __future__ import annotations

from typing import Final

ROW_PERIOD_US: Final = 60_000_000
ROW_PERIOD_MS: Final = ROW_PERIOD_US // 1000
