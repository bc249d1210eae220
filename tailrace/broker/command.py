"""`tailrace broker`: a local Kafka from the command line."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from tailrace.broker.errors import BrokerError
from tailrace.broker.process import Broker
from tailrace.broker.runtime import KAFKA

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stop(BaseException):
    """A signal asked the command to end."""


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data and the port in this folder. Default: a temporary folder, removed at the end.",
)
@click.option(
    "--port", type=click.IntRange(1024, 65535), help="Default: the port kept in --data, else a free one."
)
@click.option("--heap", default="512m", show_default=True, help="Java's -Xmx.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON line: bootstrap_servers, pid, data, log."
)
def broker(data: Path | None, port: int | None, heap: str, as_json: bool) -> None:
    """Run a local Apache Kafka, without Docker or Java, until Ctrl-C.

    One node on 127.0.0.1, without authentication and without topics: for first steps and tests, not for
    production. The first start downloads 45 MB and takes about half a minute, later ones take 1-2 s.

    Exit status: 0 stopped by a signal; 1 it could not start, or ended by itself (the end of its log is
    printed); 2 options are wrong.

    \b
    Try it out; nothing is kept:
      tailrace broker

    \b
    Keep the data and the port, for a script:
      tailrace broker --data ./kafka --port 29092 --json
    """
    try:
        _raise_on_signals()
        with Broker(data, port, heap, log=lambda line: click.echo(line, err=True)) as node:
            click.echo(_as_json(node) if as_json else _as_text(node, kept=data is not None))
            status = node.wait()
            raise BrokerError(f"the broker ended by itself with status {status}:\n{node.log_tail()}")
    except BrokerError as error:
        raise click.ClickException(str(error)) from error
    except _Stop:
        pass


def _as_json(node: Broker) -> str:
    return json.dumps(
        {
            "bootstrap_servers": node.bootstrap_servers,
            "pid": node.pid,
            "data": str(node.data_dir),
            "log": str(node.log_path),
        }
    )


def _as_text(node: Broker, kept: bool) -> str:
    keeping = "kept" if kept else "removed at the end; --data keeps it"
    return (
        f"Apache Kafka {KAFKA} is running: one node, this machine only, no authentication.\n"
        f"\n"
        f"  bootstrap servers  {node.bootstrap_servers}\n"
        f"  data               {node.data_dir} ({keeping})\n"
        f"  log                {node.log_path}\n"
        f"\n"
        f"Ctrl-C stops it."
    )


def _raise_on_signals() -> None:
    """The first signal unwinds the stack and so stops the broker; later ones are ignored."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        raise _Stop

    # signals that are ignored already, as SIGHUP under nohup, stay ignored
    handled = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    for each in handled:
        signal.signal(each, stop)
