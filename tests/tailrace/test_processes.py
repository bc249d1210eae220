"""Logging of a process, and processes that end with their parent."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tailrace import processes

PARENT = """
import os, signal, subprocess, sys
fd = int(sys.argv[2])
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), str(fd)], pass_fds=[fd])
signal.pause()
"""
CHILD = """
import os, signal, sys
from tailrace.processes import die_with_parent
fd = int(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: (os.write(fd, b"signalled"), os._exit(0)))
die_with_parent(int(sys.argv[1]))
os.write(fd, b"ready")
signal.pause()
"""


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger. It is restored at the end."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    levels = {name: logging.getLogger(name).level for name in processes._NOISY}
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def test_logs_go_to_stderr_with_time_level_and_name(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.set_up_logging("INFO")
    logging.getLogger("tailrace.x").info("hello %d", 5)
    logging.getLogger("tailrace.x").debug("not this")
    logging.getLogger("aiokafka").info("nor this")
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.endswith(" INFO    tailrace.x: hello 5\n")
    assert out.err.count("\n") == 1


def test_a_noisy_librarys_line_comes_once_in_ten_seconds(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.set_up_logging("INFO")
    noisy = logging.getLogger("aiokafka.client")
    for created in (100.0, 101.0, 109.0, 110.5):
        record = noisy.makeRecord(noisy.name, logging.WARNING, __file__, 1, "down %s", (created,), None)
        record.created = created
        noisy.handle(record)
    noisy.warning("another")
    ours = logging.getLogger("tailrace.x")
    for _ in range(3):
        ours.warning("ours")
    err = capsys.readouterr().err
    assert [line.rsplit(": ", 1)[1] for line in err.splitlines()] == [
        "down 100.0",
        "down 110.5",
        "another",
        *["ours"] * 3,
    ]


def test_a_child_gets_a_signal_when_its_parent_is_killed() -> None:
    ours, theirs = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(theirs)], pass_fds=[theirs])
    os.close(theirs)
    assert os.read(ours, 100) == b"ready"
    parent.kill()
    parent.wait()
    assert os.read(ours, 100) == b"signalled"
    assert os.read(ours, 100) == b""  # and it has ended
    os.close(ours)


def test_a_child_whose_parent_has_ended_already_ends_at_once() -> None:
    code = (
        "import sys, signal; from tailrace.processes import die_with_parent; die_with_parent(2**22 + 1); "
        "signal.pause()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM


LIMITS = """
import os, resource
from tailrace.processes import descriptors, raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 200))
before = descriptors()
print(before[0] < 50, before[1], *raise_descriptor_limit(), *raise_descriptor_limit())
opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
print(descriptors()[0] - before[0])
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
except OSError:
    print(descriptors())
"""


def test_the_limit_of_open_files_is_raised_and_the_used_ones_are_counted() -> None:
    ran = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["True 50 50 200 200 200", "100", "(200, 200)"]
