"""The supervisor restarts workers with a back-off, and stops where a restart would not help."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.supervisor import LAST_DELAY, Supervisor, delay, describe
from streams.runtime.worker import Job
from tailrace.settings import Settings

JOB = Job(Settings(), "host-0")


def child(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_worker_that_ended_is_started_again() -> None:
    starts = []

    def spawn(job: Job) -> subprocess.Popen[bytes]:
        starts.append(job.instance_id)
        if len(starts) == 3:
            supervisor.stop()
        return child("import sys; sys.exit(3)") if len(starts) < 3 else child("import time; time.sleep(60)")

    supervisor = Supervisor([JOB], spawn)
    assert supervisor.run() == 0
    assert starts == ["host-0"] * 3


@pytest.mark.parametrize("code", [2, 6])
def test_an_exit_that_a_restart_would_not_fix_ends_all_workers(code: int) -> None:
    starts = []

    def spawn(job: Job) -> subprocess.Popen[bytes]:
        starts.append(job)
        return (
            child(f"import sys; sys.exit({code})")
            if len(starts) == 1
            else child("import time; time.sleep(60)")
        )

    assert Supervisor([JOB, JOB], spawn).run() == code
    assert len(starts) == 2


@given(st.integers(0, 10_000))
def test_the_delay_grows_and_is_bounded(failures: int) -> None:
    assert 0 <= delay(failures) <= delay(failures + 1) <= LAST_DELAY
    assert delay(0) == 0


def test_exit_statuses_are_described_in_words() -> None:
    assert (describe(-9), describe(3)) == ("killed by SIGKILL", "exit code 3")
