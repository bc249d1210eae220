"""Reads the recording: raw lines, typed lines, its latest time. Every error names its line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from examples.recorded_runs.engine_lines import (
    ContainerStarted,
    EdgeTaken,
    GraphEnd,
    GraphStart,
    Line,
    NodeEnded,
    NodeRetried,
    NodeStarted,
)

RECORDING: Final = Path(__file__).with_name("data") / "graphon_runs.jsonl.gz"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RecordingError(ValueError):
    """The recording is truncated, garbled or contradicts itself.

    `line` is the number of the wrong line, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


def microseconds(moment: datetime) -> int:
    """Microseconds UTC, exactly. A time without a zone is UTC, because the engine writes UTC."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


class _Head(msgspec.Struct, frozen=True):
    kind: Literal["graph_start", "event", "graph_end"]
    run_id: str
    at: datetime
    event: str = ""


_head: Final = msgspec.json.Decoder(_Head)
_CLASSES: Final[dict[str, type[Line]]] = {
    "graph_start": GraphStart,
    "graph_end": GraphEnd,
    "NodeRunStartedEvent": NodeStarted,
    "NodeRunIterationStartedEvent": ContainerStarted,
    "NodeRunLoopStartedEvent": ContainerStarted,
    "NodeRunRetryEvent": NodeRetried,
    "NodeRunSucceededEvent": NodeEnded,
    "NodeRunFailedEvent": NodeEnded,
    "NodeRunExceptionEvent": NodeEnded,
    "GraphEdgeTakenEvent": EdgeTaken,
}
_line: Final[dict[str, msgspec.json.Decoder[Line]]] = {
    name: msgspec.json.Decoder(cls) for name, cls in _CLASSES.items()
}


def lines(path: Path = RECORDING) -> Iterator[bytes]:
    """The raw lines of a recording, gzipped or not."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                number += 1
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise RecordingError(number + 1, f"the compressed file is damaged here: {e}") from None


def read(raw: Iterable[bytes]) -> Iterator[tuple[int, Line]]:
    """Yields (line number, line) for the lines that trace events are made of.

    All others are checked to be lines, and skipped.
    """
    for number, text in enumerate(raw, 1):
        try:
            head = _head.decode(text)
            decoder = _line.get(head.event or head.kind)
            line = decoder.decode(text) if decoder else None
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise RecordingError(number, f"not a line of a recording: {e}") from None
        if line is not None:
            yield number, line


def latest(raw: Iterable[bytes]) -> int:
    """The latest time in the recording, microseconds UTC: when its last line was written.

    No operation ends after it.
    """
    found = 0
    for number, text in enumerate(raw, 1):
        try:
            found = max(found, microseconds(_head.decode(text).at))
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise RecordingError(number, f"not a line of a recording: {e}") from None
    return found
