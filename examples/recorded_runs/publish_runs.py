"""The recorded runs, as if they had just ended.

As a command it publishes them: `python -m examples.recorded_runs.publish_runs`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from examples.recorded_runs.adapter import adapt, shift_to
from examples.recorded_runs.recording import RECORDING, lines
from tailrace import Publisher, TraceEvent


def events(
    path: Path = RECORDING, now: int | None = None, salt: str | None = None, tenant_id: str = "demo"
) -> Iterator[TraceEvent]:
    """Yields the recording's trace events.

    Args:
        now: microseconds UTC to which the latest time is moved; None keeps the times.
        salt: another salt gives other traces; None keeps the recorded ids.
    """
    shift = 0 if now is None else shift_to(now, lines(path))
    return adapt(lines(path), tenant_id=tenant_id, shift=shift, salt=salt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--bootstrap-servers", default="127.0.0.1:9092", help="where Kafka is (default: %(default)s)"
    )
    parser.add_argument("--salt", help="derives the ids: another salt publishes other traces")
    options = parser.parse_args()
    with Publisher(options.bootstrap_servers) as publisher:
        for event in events(now=time.time_ns() // 1000, salt=options.salt):
            publisher.publish(event)
    print(publisher.counts)


if __name__ == "__main__":
    main()
