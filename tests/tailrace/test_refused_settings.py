"""Settings of Kafka's clients and variables, as the commands meet them: exit status, names, no values."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.tailrace.ports import closed_port

SECRET = "marker-7f3a91"
COMMANDS = (
    ("check", "--wait", "0"),
    ("topics", "create", "--wait", "0"),
    ("topics", "check", "--wait", "0"),
    ("publish", "--timeout", "0"),
    ("metrics",),
    ("ledger",),
    ("process",),
    ("connect", "console"),
)


def run(*arguments: str, **env: str) -> tuple[int, str]:
    """Exit status and output of a command."""
    ran = subprocess.run(
        [sys.executable, "-m", "tailrace", *arguments],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_property_that_librdkafka_refuses_ends_every_command(
    command: tuple[str, ...],
) -> None:
    client = f"kafka.client=reconnect.backoff.ms=many,sasl.password={SECRET}"
    code, said = run(*command, "-b", "127.0.0.1:1", "--set", client)
    assert code == (1 if command[0] == "check" else 2), said
    assert "reconnect.backoff.ms" in said
    assert "Traceback" not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("command", "property"),
    [
        ("process", "message.timeout.ms=600000"),  # longer than a transaction
        ("process", "socket.timeout.ms=60000"),
        ("process", "security.protocol=ssl,ssl.curves.list=P-256"),
        ("connect", "max.poll.interval.ms=10"),  # shorter than a session
        ("connect", "retries=0"),
        ("publish", "max.in.flight.requests.per.connection=6"),
    ],
)
def test_a_property_that_one_client_cannot_use_ends_its_command(command: str, property: str) -> None:
    arguments = {"connect": ["console"], "publish": ["--timeout", "0"]}.get(command, [])
    code, said = run(command, *arguments, "-b", "127.0.0.1:1", "--set", f"kafka.client={property}")
    assert code == 2, said
    assert property.rpartition(",")[2].partition("=")[0].removesuffix(".requests.per.connection") in said
    assert "Traceback" not in said


def test_a_misspelt_content_of_a_configured_sink_ends_the_connector() -> None:
    code, said = run("connect", "console", "-b", "127.0.0.1:1", TAILRACE_SINKS_CONSOLE_CONTNET=SECRET)
    assert code == 2, said
    assert "sinks.console" in said
    assert "contnet" in said
    assert SECRET not in said


@pytest.mark.parametrize("command", COMMANDS[:3], ids=" ".join)
def test_a_kubernetes_service_of_our_name_changes_nothing(command: tuple[str, ...]) -> None:
    with closed_port() as address:
        host, port = address.split(":")
        service = {
            "TAILRACE_PORT": f"tcp://{address}",
            "TAILRACE_SERVICE_HOST": host,
            "TAILRACE_PORT_9092_TCP_ADDR": host,
            "TAILRACE_CONNECT_SERVICE_PORT_HTTP": port,
            "TAILRACE_STREAMS_HTTP_PORT": f"tcp://{address}",
        }
        code, said = run(*command, "-b", address, **service)
    assert f"no Kafka broker answers at {address}" in said
    assert code != 0
    assert "TAILRACE_" not in said
