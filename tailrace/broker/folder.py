"""The data folder of a broker: its identity, port, log, and the lock that allows one broker at a time."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import random
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from tailrace.broker.errors import BrokerError

NODE_ID = 1
_LOOPBACK = "127.0.0.1"
_TAIL = 20
_RECENT = 500
_ERROR = re.compile(r" ERROR |^Error|^Invalid|^Terminating|^Exception")
_DYING = 5.0

_SETTINGS = {
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "min.insync.replicas": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "auto.create.topics.enable": "false",
    # a killed broker may rejoin only when its old session has timed out: a restart takes 3 s, not 11
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
    "log.cleaner.dedupe.buffer.size": "16777216",  # the default, 128 MiB, is allocated at once: 130 MB of RSS
}


class Folder:
    """An open data folder; this process holds it exclusively until `close`.

    It holds `broker.json` (cluster id, port), `server.properties`, `kafka/`, `broker.log` and the
    previous log.
    """

    def __init__(self, path: Path | None, port: int | None) -> None:
        """Opens `path`, created if missing; None: a temporary folder that `close` removes.

        The port is `port`, else the one kept in the folder, else a free one. It is kept in the folder.

        Raises:
            BrokerError: another broker uses the folder.
        """
        self.temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="tailrace-broker-")) if path is None else path.absolute()
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock = self._take_lock()
        self.log = self.path / "broker.log"
        self.properties = self.path / "server.properties"
        if self.log.exists():
            self.log.replace(self.path / "broker.log.1")
        identity = self.path / "broker.json"
        kept = json.loads(identity.read_text()) if identity.exists() else {}
        self.cluster_id: str = kept.get("cluster_id") or _new_cluster_id()
        self.port: int = port or kept.get("port") or free_port()
        new = identity.with_suffix(".new")
        new.write_text(json.dumps({"cluster_id": self.cluster_id, "port": self.port}))
        new.replace(identity)

    @property
    def address(self) -> str:
        return f"{_LOOPBACK}:{self.port}"

    @property
    def formatted(self) -> bool:
        return (self.path / "kafka" / "meta.properties").exists()

    def configure(self, properties: Mapping[str, str], listeners: Mapping[str, int]) -> None:
        """Writes `server.properties`: the defaults, overridden by `properties`.

        Args:
            properties: further settings.
            listeners: further listeners on loopback, name -> port.

        Raises:
            BrokerError: the port is in use, or a property must not be overridden.
        """
        if not is_free(self.port):
            raise BrokerError(f"port {self.port} is in use: stop what listens there, or choose another port")
        controller = free_port(but=self.port)
        own = {"PLAINTEXT": self.port, **listeners}
        advertised = ",".join(f"{name}://{_LOOPBACK}:{port}" for name, port in own.items())
        fixed = {
            "process.roles": "broker,controller",
            "node.id": str(NODE_ID),
            "controller.quorum.voters": f"{NODE_ID}@{_LOOPBACK}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{advertised},CONTROLLER://{_LOOPBACK}:{controller}",
            "advertised.listeners": advertised,
            "log.dirs": "kafka",  # relative: a full path may contain a comma, which separates paths here
        }
        if clash := sorted(fixed.keys() & properties.keys()):
            raise BrokerError(f"{', '.join(clash)}: cannot be set; remove it from `properties`")
        settings = {**_SETTINGS, **properties, **fixed}
        self.properties.write_text("".join(f"{name}={_escaped(value)}\n" for name, value in settings.items()))

    def tail(self) -> str:
        """At most 20 lines of the log, without stack frames.

        They start at the first recent error; without an error they are the last lines.
        """
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line for line in text.splitlines()[-_RECENT:] if line and not line.startswith("\t")]
        first = next((i for i, line in enumerate(lines) if _ERROR.search(line)), max(len(lines) - _TAIL, 0))
        return "\n".join(lines[first : first + _TAIL])

    def close(self) -> None:
        """Releases the folder and removes a temporary one. The broker must have ended."""
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        fcntl.flock(self.lock, fcntl.LOCK_UN)  # explicitly: a fork of this process may hold it open too
        os.close(self.lock)

    def _take_lock(self) -> int:
        """Locks the folder.

        The node inherits the descriptor, so the lock is held while either process lives.
        """
        path = self.path / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        patience = time.monotonic() + _DYING
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = path.read_text()
                # a node whose parent was killed ends too, which takes about 50 ms
                if time.monotonic() > patience or _runs(owner):
                    os.close(descriptor)
                    raise BrokerError(f"{self.path} is in use by the broker of process {owner}") from None
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):  # not written yet; another user's
        pass
    return True


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java: old connections don't count
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(but: int | None = None) -> int:
    """A free port below the ephemeral range, where no client's own socket lands. It is not reserved."""
    for port in random.sample(range(20_000, 32_000), 1_000):
        if port != but and is_free(port):
            return port
    raise BrokerError("no free port between 20000 and 31999")


def _new_cluster_id() -> str:
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not name.startswith("-"):  # the format command would take it for an option
            return name


def _escaped(value: str) -> str:
    """Escaped for a Java properties file, which is Latin-1."""
    return "".join(c if " " <= c <= "~" and c != "\\" else f"\\u{ord(c):04x}" for c in value)
