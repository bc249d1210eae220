"""Prints events on the terminal: to watch them, not to keep them."""

from __future__ import annotations

import sys
from typing import IO, Literal

import msgspec

from connectors import Batch, Delivered, Enriched, Health, Http, Outcomes, Payload, SinkStopped, sink
from connectors.sinks.lines import as_json, as_text


@sink("console", max_records=500, max_bytes=4_000_000)
class Console:
    """One line per event on standard output."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        format: Literal["text", "json"] = "text"
        """text: time, kind, name, status, duration, tokens, trace. json: the whole event and its context."""
        colour: Literal["auto", "always", "never"] = "auto"
        """auto: on a terminal only."""

    def __init__(self, settings: Settings, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._json = settings.format == "json"
        self._colour = settings.colour == "always" or (settings.colour == "auto" and self._stream.isatty())

    def map(self, event: Enriched) -> Payload:
        line = as_json(event).decode() if self._json else as_text(event, colour=self._colour)
        return Payload(line, len(line))

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        """Delivered means written and flushed.

        Raises:
            SinkStopped: standard output is closed (`… | head`).
        """
        try:
            self._stream.write("\n".join(batch.bodies) + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError) as e:  # ValueError: the stream is closed
            raise SinkStopped(f"console: standard output is closed: {e}") from None
        return Delivered()

    async def check(self, http: Http) -> Health:
        return Health(True)
