"""The broker: one Kafka node on loopback, started, stopped, killed and restarted."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tailrace.broker.child import Child
from tailrace.broker.errors import BrokerError
from tailrace.broker.folder import NODE_ID, Folder
from tailrace.broker.runtime import Runtime, prepare

_POLL = 0.02
_OFFSETS = "__consumer_offsets"
_NO_SUCH_GROUP = "GROUP_ID_NOT_FOUND"


class Broker:
    """Apache Kafka in a child process: KRaft, one node, loopback only, no authentication, replication 1.

    The node ends with this process, however that ends (on macOS only if it exits normally). A temporary
    data folder is removed by `stop` or at a normal exit; a process that is killed leaves it behind.
    Acknowledged records survive `kill`, but not a power failure. Not thread-safe.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int | None = None,
        heap: str = "512m",
        properties: Mapping[str, str] = MappingProxyType({}),
        log: Callable[[str], None] | None = None,
        listeners: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Prepares a broker; nothing runs before `start`.

        Args:
            data_dir: kept, with its cluster id and port. None: a temporary folder, removed by `stop`.
            port: default: the one kept in `data_dir`, else a free one from 20000 to 31999.
            heap: Java's -Xmx.
            properties: further broker settings; they override the defaults.
            log: receives a line before anything that takes long; default: the logger `tailrace.broker`.
            listeners: further listeners on loopback, name -> port, e.g. to try TLS or SASL. `properties`
                must say what they are: `listener.security.protocol.map` and `listener.name.<name>.…`.
        """
        self._data_dir = data_dir
        self._listeners = dict(listeners)
        self._port = port
        self._heap = heap
        self._properties = dict(properties)
        self._log = log or logging.getLogger("tailrace.broker").info
        self._runtime: Runtime | None = None
        self._folder: Folder | None = None
        self._child: Child | None = None
        self._owner = os.getpid()

    @property
    def bootstrap_servers(self) -> str:
        """127.0.0.1:PORT; does not change with `restart`.

        Raises:
            BrokerError: before `start` and after `stop`.
        """
        return self._held().address

    @property
    def data_dir(self) -> Path:
        """Where the data is. Raises BrokerError before `start` and after `stop`."""
        return self._held().path

    @property
    def log_path(self) -> Path:
        """The node's own log. Raises BrokerError before `start` and after `stop`."""
        return self._held().log

    @property
    def pid(self) -> int | None:
        """The node's process id, or None if it does not run."""
        return self._child.pid if self._child and self._child.wait(0) is None else None

    def log_tail(self) -> str:
        """The end of the node's log: 20 lines from its first recent error on, else its last lines."""
        return self._held().tail()

    def start(self, timeout: float = 120) -> Broker:
        """Starts the node; returns when the API answers and every group coordinator has loaded.

        Args:
            timeout: seconds; the downloads and preparations of a machine's first start do not count.

        Raises:
            BrokerError: the node ends or does not answer in time, the folder or the port is in use, the
                extra is not installed, or Kafka cannot be downloaded.
        """
        if self.pid is not None:
            raise BrokerError(f"the broker is already running, at {self.bootstrap_servers}")
        if self._runtime is None:
            self._runtime = prepare(self._log, _rehearse)
        atexit.register(self._at_exit)
        held = self._folder is not None
        try:
            self._folder = self._folder or Folder(self._data_dir, self._port)
            self._launch(self._folder, self._runtime, time.monotonic() + timeout)
        except BaseException:
            self.kill()
            if not held:
                self.stop()
            raise
        return self

    def stop(self, timeout: float = 20) -> None:
        """SIGTERM, then SIGKILL after `timeout` seconds. Releases the folder and removes a temporary one."""
        if self._child:
            self._child.end(timeout)
            self._child = None
        if self._folder:
            self._folder.close()
            self._folder = None
        atexit.unregister(self._at_exit)

    def kill(self) -> None:
        """SIGKILL, like a crash. The folder and the port stay reserved for `restart`."""
        if self._child:
            self._child.kill()

    def restart(self, timeout: float = 120) -> Broker:
        """Starts the node again with the same port and data; stops it first if it runs. Not after `stop`."""
        self._held()
        if self._child:
            self._child.end(timeout=20)
        return self.start(timeout)

    def wait(self, timeout: float | None = None) -> int | None:
        """The node's exit status (negative: the signal) once it ends; None after `timeout` seconds."""
        return self._child.wait(timeout) if self._child else None

    def __enter__(self) -> Broker:
        return self if self.pid is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _held(self) -> Folder:
        if self._folder is None:
            raise BrokerError("the broker is not started")
        return self._folder

    def _at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked child must not stop it
            self.stop()

    def _launch(self, folder: Folder, runtime: Runtime, deadline: float) -> None:
        folder.configure(self._properties, self._listeners)
        if not folder.formatted:
            self._spawn(folder, runtime.format(folder.cluster_id, folder.properties))
            if (status := self.wait(deadline - time.monotonic())) != 0:
                raise BrokerError(f"cannot format {folder.path}, status {status}:\n{folder.tail()}")
        self._spawn(folder, runtime.node(folder.properties, self._heap))
        self._until(lambda: _listens(folder.port), folder, deadline)
        # errors are raised as exceptions; librdkafka's own log lines on stderr would only confuse the user
        admin = AdminClient({"bootstrap.servers": folder.address, "log_level": 0, "reconnect.backoff.ms": 20})
        self._until(lambda: _serves(admin, folder.cluster_id), folder, deadline)

    def _spawn(self, folder: Folder, command: list[str]) -> None:
        self._child = Child(command, folder=folder.path, log=folder.log, keep=[folder.lock])

    def _until(self, done: Callable[[], bool], folder: Folder, deadline: float) -> None:
        while not done():
            if (status := self.wait(_POLL)) is not None:
                raise BrokerError(f"the broker ended with status {status}:\n{folder.tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"the broker did not answer in time:\n{folder.tail()}")


def _rehearse(runtime: Runtime) -> None:
    broker = Broker()
    broker._runtime = runtime
    try:
        broker.start()
        broker.stop(timeout=120)  # writing the class cache takes the node 5 s
    except BaseException:
        broker.kill()
        broker.stop()
        raise


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _serves(admin: AdminClient, cluster_id: str) -> bool:
    """Whether our node answers and its group coordinators are ready.

    Coordinators load in the background. If librdkafka gets the answer "not coordinator", a consumer
    that joins waits 3 s. So one group on each partition of the offsets topic is described; the first
    call also creates that topic. (list_consumer_group_offsets cannot be used: the answer "not
    coordinator" crashes the process, librdkafka issue 5040.)
    """
    try:
        cluster = admin.list_topics(timeout=2)
        if cluster.cluster_id != cluster_id or NODE_ID not in cluster.brokers:
            return False
        offsets = cluster.topics.get(_OFFSETS)
        # the Java hash of a one-character name is its code, so n consecutive names hit each of n partitions
        groups = [chr(ord("a") + i) for i in range(len(offsets.partitions) if offsets else 1)]
        for answer in admin.describe_consumer_groups(groups, request_timeout=2).values():
            # not result(): a cycle of its traceback and this frame would keep the client, whose end hangs now
            # and then once the node is gone
            error = answer.exception()
            if error is not None and not (
                isinstance(error, KafkaException) and error.args[0].name() == _NO_SUCH_GROUP
            ):
                return False
    except KafkaException:
        return False
    return offsets is not None
