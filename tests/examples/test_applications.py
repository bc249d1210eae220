"""The applications in examples/ under their real servers, with Kafka and without."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from examples import celery_worker, fastapi_app
from tailrace import Kind, Publisher, TraceEvent
from tailrace.settings import Settings, convert
from tests.harness.processes import Child, wait_until
from tests.harness.servers import PATIENCE, Server
from tests.tailrace import topic
from tests.tailrace.ports import closed_port
from tests.tailrace.scripts import environment

MakeSettings = Callable[..., Settings]


@pytest.fixture
def dead() -> Iterator[Settings]:
    """Settings of a publisher without a broker, and little patience."""
    with closed_port() as address:
        yield convert(
            {
                "kafka": {"bootstrap_servers": address},
                "publisher": {"delivery_timeout_seconds": 0.5, "exit_seconds": 0.5},
            },
            Settings,
            "",
        )


def by_source(events: list[TraceEvent]) -> Counter[str]:
    return Counter(str(e.source_id) for e in events)


FLASK = ("gunicorn", "-k", "gevent", "-w", "2", "-b", "127.0.0.1:{port}", "examples.gevent_flask_app:app")
FASTAPI = ("uvicorn", "--loop", "uvloop", "--port", "{port}", "examples.fastapi_app:app")


def ask_flask(server: Server) -> list[str]:
    asked = [urllib.parse.urlencode({"question": f"q{n}"}).encode() for n in range(20)]
    return [server.post("/ask", data)["trace"] for data in asked]


def ask_fastapi(server: Server) -> list[str]:
    return [server.post(f"/ask?question=q{n}")["id"] for n in range(20)]


@pytest.mark.kafka
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_the_flask_app_on_gevent_workers(
    preload: tuple[str, ...], topics_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = topics_settings(publisher={"exit_seconds": PATIENCE})
    with Server(tmp_path, settings, *FLASK, *preload) as server:
        traces = ask_flask(server)
        log = server.stop()
    assert "not delivered" not in log
    events = topic.published(settings)
    assert len(events) == 40
    assert Counter(e.trace_id for e in events) == Counter([*traces, *traces])
    assert {e.source_id for e in events if e.name == "ask"} == set(traces)
    assert {e.parent_id for e in events if e.name == "answer"} == set(traces)


@pytest.mark.kafka
def test_the_fastapi_app_on_uvloop(topics_settings: MakeSettings, tmp_path: Path) -> None:
    settings = topics_settings()
    with Server(tmp_path, settings, *FASTAPI) as server:
        ids = ask_fastapi(server)
        assert "not traced" not in server.stop()
    assert by_source(topic.published(settings)) == Counter(ids)


@pytest.mark.parametrize(
    ("command", "ask"), [(FLASK, ask_flask), (FASTAPI, ask_fastapi)], ids=["flask", "fastapi"]
)
def test_a_web_app_answers_and_ends_without_kafka(
    command: tuple[str, ...], ask: Callable[[Server], list[str]], dead: Settings, tmp_path: Path
) -> None:
    with Server(tmp_path, dead, *command) as server:
        assert len(set(ask(server))) == 20
        log = server.stop()
    assert "no Kafka broker answers" in log
    assert "Traceback" not in log


def test_the_flask_app_answers_when_its_event_is_too_large(dead: Settings, tmp_path: Path) -> None:
    question = urllib.parse.urlencode({"question": "q" * 480_000}).encode()
    with Server(tmp_path, dead, *FLASK) as server:
        assert server.post("/ask", question)["answer"].endswith("q" * 480_000)
        log = server.stop()
    assert log.count("not traced: ") == 2
    assert "Traceback" not in log


def test_the_fastapi_app_takes_no_harm_from_an_event_that_is_too_large(
    dead: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time_ns() // 1000
    event = TraceEvent(kind=Kind.SPAN, started_at=now, ended_at=now, outputs="a" * 1_000_000)
    with Publisher(settings=dead) as publisher:
        asyncio.run(fastapi_app.publish(publisher, event))
    assert "not traced: outputs: " in caplog.text


# -- Celery

WORKER = """
import sys
from examples.celery_worker import answer, app
folder = sys.argv[1]
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "-control",
    },
    worker_hijack_root_logger=False,
)
if sys.argv[2] == "work":
    app.worker_main(["worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO"])
for n in range(20):
    print(answer.delay(f"q{n}" if n else "").id)
"""


class Celery:
    """The worker, and a client that has sent it 20 tasks, the first of which fails."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        queue = folder / "queue"
        queue.mkdir()
        command = [sys.executable, "-c", WORKER, str(queue)]
        env = environment(settings)
        sent = subprocess.run(
            [*command, "send"], env={**os.environ, **env}, capture_output=True, text=True, check=True
        )
        self.ids = sent.stdout.split()
        self.child = Child([*command, "work"], env, folder / "worker.log", cwd=folder)

    def work(self) -> str:
        """Runs the worker until all is done, and ends it. Returns its log."""

        def done() -> bool:
            return all(f"[{task}] {end}" in self.child.output() for task, end in self._ends())

        with self.child:
            wait_until(done, PATIENCE, "the tasks are done", alive=(self.child,))
            assert self.child.sigterm(PATIENCE) == 0, self.child.tail()
            return self.child.output()

    def _ends(self) -> list[tuple[str, str]]:
        return [(task, "succeeded" if n else "raised unexpected") for n, task in enumerate(self.ids)]


@pytest.mark.kafka
def test_the_celery_worker(topics_settings: MakeSettings, tmp_path: Path) -> None:
    settings = topics_settings()
    celery = Celery(tmp_path, settings)
    celery.work()
    events = topic.published(settings)
    assert by_source(events) == Counter(celery.ids)
    first = next(e for e in events if e.source_id == celery.ids[0])
    assert (first.name, first.error) == ("examples.celery_worker.answer", "FAILURE: no question")
    assert Counter(e.outputs for e in events if e is not first) == Counter(
        json.dumps(f"You asked: q{n}") for n in range(1, 20)
    )


def test_the_celery_worker_works_and_ends_without_kafka(dead: Settings, tmp_path: Path) -> None:
    assert "no Kafka broker answers" in Celery(tmp_path, dead).work()


def test_a_celery_task_that_is_retried_is_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[TraceEvent] = []
    monkeypatch.setattr(celery_worker, "publisher", SimpleNamespace(publish=published.append))
    for state, result in (("RETRY", "later"), ("RETRY", "later"), ("SUCCESS", "done")):
        celery_worker.begin(task_id="t")
        celery_worker.publish(
            task_id="t", task=celery_worker.answer, args=["q"], kwargs={}, retval=result, state=state
        )
    assert [(e.source_id, e.revision, e.outputs, e.error) for e in published] == [("t", 0, "done", None)]
