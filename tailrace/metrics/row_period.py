"""How much event time one row of trace.metrics covers. It stands here only.

A minute is a whole number of periods. Another value needs new topics: keys of trace.metrics and trace.state
hold the number of the period since 1970."""

from __future__ import annotations

from typing import Final

ROW_PERIOD_US: Final = 60_000_000
ROW_PERIOD_MS: Final = ROW_PERIOD_US // 1000
