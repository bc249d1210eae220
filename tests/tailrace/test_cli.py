"""The `tailrace` command: the commands that it lists, where it finds them, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from tailrace import __version__
from tailrace.cli import GROUP, OPERATIONS, Commands, cli
from tailrace.settings import Settings
from tailrace.topics import TopicNames
from tests.tailrace.ports import closed_port

COMMANDS = sorted(e.name for group in (GROUP, OPERATIONS) for e in entry_points(group=group))
BASE = sorted(e.name for e in entry_points(group=GROUP) if e.value.startswith("tailrace."))


def tailrace(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "tailrace", *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_entry_point_with_what_it_does() -> None:
    ran = CliRunner().invoke(cli, ["--help"])
    assert ran.exit_code == 0
    listed = [line.split(None, 1) for line in ran.output.split("Commands:\n")[1].splitlines()]
    assert [name for name, _ in listed] == COMMANDS
    assert not any("needs" in text or "not in this installation" in text for _, text in listed)


@pytest.mark.parametrize("command", BASE)
def test_every_command_of_the_base_has_help_with_an_example(command: str) -> None:
    ran = CliRunner().invoke(cli, [command, "--help"])
    assert ran.exit_code == 0
    assert f"  tailrace {command}" in ran.output


def test_an_application_with_packages_of_our_names_is_not_in_the_way(tmp_path: Path) -> None:
    for name in (
        "schemas.py",
        "streams/__init__.py",
        "connectors/__init__.py",
        "ledger.py",
        "click/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            f"raise RuntimeError('the application's own {name}')".replace("'s ", "s ")
        )
    ran = tailrace("--version", cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"tailrace, version {__version__}\n", "")
    ran = tailrace("--help", cwd=tmp_path)
    assert ran.returncode == 0
    assert "own" not in ran.stdout + ran.stderr
    assert [line.split()[0] for line in ran.stdout.split("Commands:\n")[1].splitlines()] == COMMANDS


@pytest.mark.parametrize(
    ("value", "missing", "said"),
    [
        (
            "connectors.commands.connect:connect",
            "aiohttp",
            "`tailrace x` needs aiohttp: pip install 'tailrace[connectors]'",
        ),
        (
            "tailrace.broker.command:broker",
            "jgo.parser",
            "`tailrace x` needs jgo.parser: pip install 'tailrace[broker]'",
        ),
        (
            "tailrace.commands.x:x",
            "tailrace.commands.x",
            "`tailrace x` is not in this installation: No module named",
        ),
        ("streams.command:process", "streams", "`tailrace x` is not in this installation: No module named"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, missing: str, said: str
) -> None:
    class Broken:
        name = "x"

        def __init__(self) -> None:
            self.value = value

        def load(self) -> click.Command:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("tailrace.cli.entry_points", lambda group: [Broken()])
    for arguments in (["x"], ["x", "--any", "option"], ["x", "--help"]):
        ran = CliRunner().invoke(Commands(name="tailrace"), arguments)
        assert ran.exit_code == 2
        assert said in ran.output
    assert (
        said.split(":", maxsplit=1)[0]
        in CliRunner().invoke(Commands(name="tailrace"), ["--help"], terminal_width=200).output
    )


def test_a_command_is_loaded_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = EntryPoint.load

    def watched(self: EntryPoint) -> object:
        loaded.append(self.name)
        return load(self)

    monkeypatch.setattr(EntryPoint, "load", watched)
    assert CliRunner().invoke(cli, ["schemas", "ls"]).exit_code == 0
    assert loaded == ["schemas"]


def test_an_unknown_command_is_an_error() -> None:
    ran = CliRunner().invoke(cli, ["dance"])
    assert ran.exit_code == 2
    assert "No such command 'dance'" in ran.output


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["topics", "check"], {"TAILRACE_TOPICS_PARTITIONS": "none"}, "tailrace: topics.partitions: "),
        (["publish", "--set", "publisher.when_full=explode"], {}, "tailrace: publisher.when_full: "),
        (["topics", "create", "--set", "nonsense"], {}, "section.field=value"),
        (["topics", "check", "--set", "kafka.client.no.such=marker-1"], {}, "no.such"),
    ],
)
def test_wrong_settings_end_with_status_2_and_one_line(
    tmp_path: Path, arguments: list[str], env: dict[str, str], said: str
) -> None:
    ran = tailrace(*arguments, cwd=tmp_path, **env)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "Traceback" not in ran.stderr
    assert "marker-1" not in ran.stderr


def test_no_broker_ends_with_status_2_and_names_the_setting(tmp_path: Path) -> None:
    with closed_port() as address:
        ran = tailrace("topics", "check", "--wait", "0", "-b", address, cwd=tmp_path)
    assert ran.returncode == 2
    assert f"no Kafka broker answers at {address} (kafka.bootstrap_servers)" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.kafka
def test_topics_are_made_and_checked(topics_settings: Callable[..., Settings]) -> None:
    settings = topics_settings(create=False)
    names = TopicNames.of(settings.topics)
    options = ["-b", settings.kafka.bootstrap_servers, "--set", f"topics.prefix={settings.topics.prefix}"]
    options += ["--set", "topics.partitions=2"]
    run = CliRunner()

    checked = run.invoke(cli, ["topics", "check", *options])
    assert checked.exit_code == 1
    assert f"needs fixing: {names.events} is missing: run `tailrace topics create`" in checked.stderr

    made = run.invoke(cli, ["topics", "create", *options, "--json"])
    assert made.exit_code == 0
    assert (len(json.loads(made.stdout)["created"]), json.loads(made.stdout)["there"]) == (8, [])
    again = run.invoke(cli, ["topics", "create", *options])
    assert again.exit_code == 0
    assert again.stdout.count("exists already") == 8

    checked = run.invoke(cli, ["topics", "check", *options, "--json"])
    assert checked.exit_code == 0
    answer = json.loads(checked.stdout)
    assert answer["problems"] == []
    assert len(answer["warnings"]) == 8
    assert answer["topics"][names.events]["partitions"] == 2
    assert "not durable" in run.invoke(cli, ["topics", "check", *options]).stderr


@pytest.mark.kafka
def test_topics_that_the_broker_refuses_end_with_its_reason(topics_settings: Callable[..., Settings]) -> None:
    settings = topics_settings(create=False)
    ran = tailrace(
        "topics",
        "create",
        "-b",
        settings.kafka.bootstrap_servers,
        "--set",
        f"topics.prefix={settings.topics.prefix}",
        "--set",
        "topics.replication_factor=3",
    )
    assert ran.returncode == 2
    assert "cannot create the topics" in ran.stderr
    assert "eplication" in ran.stderr
    assert "Traceback" not in ran.stderr
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    assert not [t for t in admin.list_topics().topics if t.startswith(settings.topics.prefix)]
