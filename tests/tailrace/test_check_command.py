"""`tailrace check`: each problem with its fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tailrace.cli import cli
from tailrace.settings import Settings
from tests.tailrace.ports import closed_port


def check(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(cli, ["check", *arguments])
    return ran.exit_code, ran.stdout, ran.stderr


def test_wrong_settings_are_a_problem_like_others() -> None:
    code, out, _ = check("--json", "--set", "topics.partitions=0")
    answer = json.loads(out)
    assert code == 1
    assert answer["passed"] == []
    (problem,) = answer["problems"]
    assert problem.startswith("settings: topics.partitions: ")


def test_properties_that_librdkafka_refuses_are_a_problem_without_their_secrets(tmp_path: Path) -> None:
    config = tmp_path / "t.toml"
    config.write_text('[kafka.client]\nsecurity.protocol = "smoke"\nsasl.password = "marker-5"')
    code, out, err = check("--config", str(config))
    assert code == 1
    assert "must be mended: settings: " in err
    assert "security.protocol" in err
    assert "marker-5" not in out + err


def test_a_broker_that_does_not_answer_is_a_problem_with_its_fix() -> None:
    with closed_port() as address:
        code, out, err = check("-b", address, "--wait", "0")
    assert code == 1
    assert out == "ok: settings are valid\n"
    assert f"must be mended: no Kafka broker answers at {address}" in err
    assert "set kafka.bootstrap_servers (-b)" in err


@pytest.mark.kafka
def test_missing_topics_are_problems_and_then_all_is_well_but_not_durable(
    topics_settings: Callable[..., Settings],
) -> None:
    settings = topics_settings(create=False)
    options = ["-b", settings.kafka.bootstrap_servers, "--set", f"topics.prefix={settings.topics.prefix}"]
    code, out, err = check(*options)
    assert code == 1
    assert out.startswith("ok: settings are valid\nok: Kafka answers at ")
    assert err.count("run `tailrace topics create`") == 7

    assert CliRunner().invoke(cli, ["topics", "create", *options]).exit_code == 0
    code, out, err = check(*options)
    assert code == 0
    assert "ok: 7 topics are as they must be" in out
    assert err.count("not durable: ") == 7
    code, out, _ = check(*options, "--json")
    answer = json.loads(out)
    assert (code, len(answer["passed"]), answer["problems"], len(answer["warnings"])) == (0, 3, [], 7)
