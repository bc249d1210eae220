"""The peers of the stream stage: each forwards the unchanged bytes to another topic.

Each is written as its own guide does, with its own defaults for delivery. None correlates, keeps state
or writes transactions; tailrace does.

- Faust (faust-streaming 0.15.3, which tailrace uses too): an agent whose body is one `send`; at least
  once.
- Quix Streams 3.28.1: `app.dataframe(topic).to_topic(topic)`; at least once, offsets committed every 5
  s.
- Bytewax 0.21.1: `KafkaSource`, one `map`, `KafkaSink`, flushed batch by batch. Without a recovery
  store, which is the default, it keeps no position: after a restart it reads from the beginning, so
  nothing is lost and everything is repeated.

Quix Streams and Bytewax need other clients than tailrace. Each gets its own virtual environment on
first use, in `$XDG_CACHE_HOME/tailrace/benchmarks` (default `~/.cache`); remove that folder to delete
them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

INSTALL_SECONDS: Final = 600

_FAUST: Final = """
import sys, faust
group, broker, source, target = [sys.argv.pop() for _ in range(4)][::-1]
app = faust.App(group, broker="kafka://" + broker, store="memory://", web_enabled=False,
                topic_disable_leader=True, consumer_auto_offset_reset="earliest", stream_buffer_maxsize=16384,
                producer_linger=0.02, datadir=group)
incoming = app.topic(source, value_type=bytes, value_serializer="raw", key_serializer="raw")
outgoing = app.topic(target, value_type=bytes, value_serializer="raw", key_serializer="raw")
@app.agent(incoming)
async def forward(stream):
    async for event in stream.events():
        await outgoing.send(key=event.key, value=event.value)
app.main()
"""

_QUIX: Final = """
import sys
from quixstreams import Application
group, broker, source, target = sys.argv[1:]
app = Application(broker_address=broker, consumer_group=group, auto_offset_reset="earliest",
                  loglevel="WARNING")
incoming = app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
outgoing = app.topic(target, value_serializer="bytes", key_serializer="bytes")
app.dataframe(incoming).to_topic(outgoing)
app.run()
"""

_BYTEWAX: Final = """
import sys
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
group, broker, source, target = sys.argv[1:]
flow = Dataflow(group)
incoming = op.input("incoming", flow, KafkaSource([broker], [source]))
outgoing = op.map("forward", incoming, lambda message: KafkaSinkMessage(message.key, message.value))
op.output("outgoing", outgoing, KafkaSink([broker], target))
cli_main(flow)
"""


class Peer(NamedTuple):
    title: str
    script: str
    """A program. Its last arguments are a group, the broker, the topic to read and the topic to write."""
    requirements: tuple[str, ...] = ()
    """Pinned, the peer first. Empty: it runs in tailrace's own environment."""
    options: tuple[str, ...] = ()


PEERS: Final = {
    "faust": Peer("Faust", _FAUST, options=("worker", "-l", "warn")),
    "quix": Peer("Quix Streams", _QUIX, ("quixstreams==3.28.1", "confluent-kafka==2.12.2")),
    "bytewax": Peer("Bytewax", _BYTEWAX, ("bytewax[kafka]==0.21.1", "confluent-kafka==2.16.1")),
}


class NotRun(Exception):
    """A peer could not be installed or started, or it ended early."""


def python_of(name: str, peer: Peer, base: str) -> str:
    """The interpreter that runs a peer. Raises `NotRun`.

    If there is no environment yet, it is created with the interpreter `base`.
    """
    if not peer.requirements:
        return sys.executable
    version = peer.requirements[0].rsplit("==", 1)[1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace" / "benchmarks"
    folder = cache / f"{name}-{version}"
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join((*peer.requirements, base))
    if stamp.exists() and stamp.read_text() == wanted and _runs(python):
        return str(python)
    print(f"{name}: creating {folder} (once; needs the network)", file=sys.stderr, flush=True)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        _call(base, "-m", "venv", str(folder))
        _call(
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            *peer.requirements,
        )
        stamp.write_text(wanted)
    except OSError as e:
        raise NotRun(f"{folder} cannot be created: {e}") from e
    return str(python)


def _runs(python: Path) -> bool:
    """Whether the interpreter that an environment was created with still exists."""
    return (
        python.exists()
        and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    )


def _call(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotRun(f"`{' '.join(command[1:4])}` took more than {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise NotRun(f"`{' '.join(command[1:4])}` failed: {last_line(done.stderr or done.stdout)}")


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


@contextlib.contextmanager
def started(
    peer: Peer, python: str, group: str, broker: str, source: str, target: str, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a peer; its output goes to `<folder>/<group>.log`."""
    script = folder / f"{group.replace('-', '_')}.py"
    script.write_text(peer.script)
    command = [python, str(script), *peer.options, group, broker, source, target]
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    with (folder / f"{group}.log").open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, env=environment if peer.requirements else None
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
