"""Waiting for a broker: its messages, when it ends, and errors that waiting cannot fix."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tailrace import kafka
from tailrace.broker import Broker
from tailrace.errors import ConfigError, KafkaUnavailable
from tailrace.settings import Kafka
from tests.tailrace.ports import closed_port

SECRET = "marker-7f3a91"


def clock(*steps: float) -> Iterator[float]:
    """Gives these times, one a call. The last one repeats."""
    return itertools.chain(steps, itertools.repeat(steps[-1]))


def test_waiting_says_for_what_and_repeats_it_every_ten_seconds() -> None:
    with closed_port() as address:
        said: list[str] = []
        times = clock(0, 1, 5, 12, 100)
        with pytest.raises(KafkaUnavailable) as caught:
            kafka.wait_for_broker(Kafka(address), 100, say=said.append, clock=lambda: next(times))
    assert [line.rsplit("(", 1)[1] for line in said] == ["1 s)", "12 s)"]
    assert all(address in line for line in said)
    assert address in str(caught.value)
    assert "kafka.bootstrap_servers" in str(caught.value)
    assert "waited 100 s" in str(caught.value)


def test_waiting_says_why_and_still_knows_it_when_it_ends() -> None:
    """The client may not have tried yet when the first line comes, and not again when the last one does."""
    said: list[str] = []
    rounds = itertools.count(0, 11)

    def stop() -> bool:
        return sum("Connection refused" in line for line in said) == 4

    with closed_port() as address, pytest.raises(KafkaUnavailable) as caught:
        kafka.wait_for_broker(Kafka(address), say=said.append, stop=stop, clock=lambda: next(rounds))
    first = next(n for n, line in enumerate(said) if "Connection refused" in line)
    assert all("Connection refused" in line for line in said[first:])
    assert "Connection refused" in str(caught.value)


def test_waiting_ends_when_it_should_stop() -> None:
    with closed_port() as address, pytest.raises(KafkaUnavailable):
        kafka.wait_for_broker(Kafka(address), say=lambda line: None, stop=lambda: True)


@pytest.mark.parametrize(
    "client",
    [
        {"nonsense": SECRET},
        {"security.protocol": "smoke-signals", "sasl.password": SECRET},
        {"sasl.password": SECRET, "security.protocol": SECRET},
        {"ssl.key.pem": SECRET, "security.protocol": "ssl"},
        {"message.max.bytes": "many"},
    ],
)
def test_invalid_properties_are_a_config_error_without_secrets(client: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.client") as caught:
        kafka.wait_for_broker(Kafka("127.0.0.1:1", client), 0)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"kafka\.client"):
        kafka.open_client(Producer, kafka.client(Kafka("127.0.0.1:1", client)))


def test_properties_of_the_user_win() -> None:
    made = kafka.client(Kafka("h:1", {"linger.ms": "7", "client.id": "mine"}), linger_ms=5, acks="all")
    assert (made["linger.ms"], made["acks"], made["client.id"]) == ("7", "all", "mine")


def test_only_secrets_are_masked_and_short_ones_are_not() -> None:
    client = {
        "sasl.username": "u",
        "sasl.password": "abc",
        "ssl.key.password": SECRET,
        "security.protocol": f"u-{SECRET}",
    }
    with pytest.raises(ConfigError) as caught:
        kafka.open_client(Producer, kafka.client(Kafka("127.0.0.1:1", client)))
    text = str(caught.value)
    assert SECRET not in text
    assert '"u-***"' in text
    assert text.count("***") == 1


def test_an_outage_is_logged_once_for_all_clients(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with closed_port() as address:
        clients = [Producer(kafka.client(Kafka(address))) for _ in range(2)]
        start = time.monotonic()
        until = start + 1.5  # so long after the first message a second one would have come
        while time.monotonic() < until:
            for one in clients:
                one.poll(0.05)
            if not caplog.records and time.monotonic() < start + 60:
                until = time.monotonic() + 1.5
    (said,) = [r.getMessage() for r in caplog.records]
    assert said.startswith(f"no Kafka broker answers at {address}: ")
    assert "Connection refused" in said
    assert address not in capfd.readouterr().err  # the client's own line; other tests' clients may write too


def test_waiting_for_a_broker_prints_nothing_of_the_client() -> None:
    with closed_port() as address:
        ran = subprocess.run(
            [sys.executable, "-m", "tailrace", "check", "-b", address, "--wait", "1.5"],
            capture_output=True,
            text=True,
            check=False,
        )
    (line,) = ran.stderr.splitlines()
    assert line.startswith("needs fixing: no Kafka broker answers")


@pytest.mark.kafka
def test_a_broker_that_answers_ends_the_wait(broker: Broker) -> None:
    said: list[str] = []
    admin, cluster = kafka.wait_for_broker(Kafka(broker.bootstrap_servers), 60, say=said.append)
    assert len(cluster.brokers) == 1
    assert said == []
    assert admin.list_topics().cluster_id == cluster.cluster_id


@pytest.mark.kafka
@pytest.mark.parametrize(
    "client",
    [
        {"security.protocol": "SSL"},
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "me",
            "sasl.password": SECRET,
        },
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "me",
            "sasl.password": SECRET,
        },
    ],
    ids=["tls", "tls-and-sasl", "sasl"],
)
def test_a_wrong_protocol_ends_the_wait_at_once(broker: Broker, client: dict[str, str]) -> None:
    said: list[str] = []
    with pytest.raises(KafkaUnavailable, match=r"security\.protocol") as caught:
        kafka.wait_for_broker(Kafka(broker.bootstrap_servers, client), say=said.append)  # without a deadline
    assert said == []
    assert SECRET not in str(caught.value)
