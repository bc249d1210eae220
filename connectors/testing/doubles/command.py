"""The command line of doubles: their common options, the line that says they are ready, and signals."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

import click
import msgspec

from connectors.testing.doubles.server import Double, ServerOptions


class FaultOptions(TypedDict):
    """The fields of `Faults` that can be set by options."""

    status: int
    status_first: int
    headers: Mapping[str, str]
    reset: Literal["request", "response"] | None
    reset_first: int
    delay: float


def double_command(max_bytes: int) -> Callable[[Callable[..., Double[Any]]], click.Command]:
    """Decorator that makes a command from a function `make(server, faults, **options)` that returns a double.

    `server` is a `ServerOptions`, `faults` a `FaultOptions`. Decorators for the vendor's own options go
    below this one.

    Args:
        max_bytes: The vendor's size limit of a request.
    """

    def command(make: Callable[..., Double[Any]]) -> click.Command:
        @functools.wraps(make)
        def run(
            *,
            host: str,
            port: int,
            max_bytes: int,
            as_json: bool,
            status: int,
            status_first: int,
            retry_after: str | None,
            reset: Literal["request", "response"] | None,
            reset_first: int,
            delay: float,
            **options: Any,
        ) -> None:
            server = ServerOptions(host=host, port=port, max_bytes=max_bytes, keep_exchanges=False)
            faults = FaultOptions(
                status=status,
                status_first=status_first,
                headers={} if retry_after is None else {"Retry-After": retry_after},
                reset=reset,
                reset_first=reset_first,
                delay=delay,
            )
            try:
                asyncio.run(_serve(make(server, faults, **options), as_json))
            except (OSError, ValueError) as e:
                raise click.ClickException(str(e)) from None

        for option in reversed(_shared_options(max_bytes)):
            run = option(run)
        return click.command()(run)

    return command


def _shared_options(max_bytes: int) -> list[Callable[..., Any]]:
    broken = click.Choice(["request", "response"])
    return [
        click.option("--host", default="127.0.0.1", show_default=True),
        click.option("--port", default=0, show_default=True, help="0: a free one."),
        click.option("--max-bytes", default=max_bytes, show_default=True, help="Larger requests get a 413."),
        click.option(
            "--delay", default=0.0, help="Seconds before each answer; the request is stored before."
        ),
        click.option("--status", default=0, help="Answer the first requests with this status."),
        click.option("--status-first", default=1, show_default=True, help="How many requests; 0: all."),
        click.option("--retry-after", default=None, help="Retry-After header of answers with --status."),
        click.option("--reset", default=None, type=broken, help="Reset connections within this body."),
        click.option("--reset-first", default=1, show_default=True, help="How many requests; 0: all."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON line, with pid, when ready."),
    ]


async def _serve(double: Double[Any], as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with double:
        if as_json:
            click.echo(msgspec.json.encode({**double.ready(), "pid": os.getpid()}))
        else:
            click.echo(f"{double.greeting()} Ctrl-C stops it.")
        await stop.wait()
    if not as_json and (summary := double.summary()):
        click.echo(summary)
