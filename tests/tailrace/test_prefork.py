"""Servers that load the application, use its publisher, and then fork their workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.settings import Settings, convert
from tests.harness.servers import PATIENCE, Server
from tests.tailrace import topic
from tests.tailrace.ports import closed_port

MakeSettings = Callable[..., Settings]

APP = """
import json, os
from tailrace import Kind, Publisher, TraceEvent

def event(name):
    return TraceEvent(kind=Kind.TOOL, source_id=name, started_at=10**15, ended_at=10**15)

publisher = Publisher()
publisher.publish(event("loaded"))
publisher.flush(float(os.environ["FLUSH"]))
served = 0

def application(environ, start_response):
    global served
    name = environ["PATH_INFO"].strip("/")
    if name:
        publisher.publish(event(name))
        served += 1
    start_response("200 OK", [("Content-Type", "application/json")])
    found = {"pid": os.getpid(), "accepted": publisher.counts.accepted, "served": served}
    return [json.dumps(found).encode()]
"""

GUNICORN = ("gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:{port}", "app:application")
UWSGI = "--master --need-app --die-on-term --processes 2 --http-socket 127.0.0.1:{port} --wsgi-file app.py"
SERVERS = {
    "gunicorn": GUNICORN,
    "gunicorn with threads": (*GUNICORN, "-k", "gthread", "--threads", "4"),
    # without the limit it may wait half a minute for a worker that has had no request, tailrace or not
    "gunicorn with gevent": (*GUNICORN, "-k", "gevent", "--graceful-timeout", "5"),
    "uWSGI": ("pyuwsgi", *UWSGI.split(), "--enable-threads"),
    "uWSGI without threads": ("pyuwsgi", *UWSGI.split()),
    "uWSGI with lazy apps": (
        "pyuwsgi",
        *UWSGI.split(),
        "--enable-threads",
        "--lazy-apps",
        "--processes",
        "1",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


@pytest.mark.kafka
@pytest.mark.parametrize("name", SERVERS)
def test_what_forked_workers_publish_arrives(
    name: str, folder: Path, topics_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUSH", str(PATIENCE))
    settings = topics_settings(publisher={"exit_seconds": PATIENCE})
    with Server(folder, settings, *SERVERS[name]) as server:
        answers = [server.post(f"/request-{n}") for n in range(30)]
        log = server.stop()
    assert "not delivered" not in log
    lazy = "lazy" in name  # then the worker loads the application itself
    assert all(a["accepted"] == a["served"] + lazy for a in answers)
    expected = Counter(["loaded", *(f"request-{n}" for n in range(30))])
    assert Counter(e.source_id for e in topic.published(settings)) == expected


@pytest.mark.parametrize("name", SERVERS)
def test_forked_workers_answer_and_end_without_kafka(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUSH", "0.1")
    with closed_port() as address:
        settings = convert(
            {"kafka": {"bootstrap_servers": address}, "publisher": {"exit_seconds": 0.2}}, Settings, ""
        )
        with Server(folder, settings, *SERVERS[name]) as server:
            answers = [server.post(f"/request-{n}") for n in range(30)]
            log = server.stop()
    assert sum(a["served"] == 1 for a in answers) == len({a["pid"] for a in answers})
    assert "Traceback" not in log
