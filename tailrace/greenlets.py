"""gevent and eventlet: whether this process runs greenlets, and how to wait or lock there.

Monkey-patched, `threading.Thread` is a greenlet and shares its thread with all others. One that waits in C
stops them all; so does a greenlet that blocks on a lock of the operating system which another one holds.

Nothing here imports gevent or eventlet. They are asked at each call, since an application may patch after
it has imported this package, e.g. in a worker of gunicorn after the fork.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

YIELD: Final = 0.0005
"""Seconds that a greenlet sleeps to let others run: gevent's sleep(0) would run no timers."""


def _gevent() -> Any:
    """gevent.monkey if it has patched something that waits, else None."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not any(monkey.is_module_patched(m) for m in ("threading", "time", "socket")):
        return None
    return monkey


def _eventlet() -> Any:
    """eventlet.patcher if it has patched something that waits, else None."""
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is None or not any(patcher.is_monkey_patched(m) for m in ("thread", "time", "socket")):
        return None
    return patcher


def threads_are_greenlets() -> bool:
    """Whether `threading.Thread` starts a greenlet."""
    if monkey := _gevent():
        return bool(monkey.is_module_patched("threading"))
    if patcher := _eventlet():
        return bool(patcher.is_monkey_patched("thread"))
    return False


def cooperative_sleep() -> Callable[[float], None] | None:
    """A sleep that lets other greenlets run; None if this process has no greenlets."""
    if not (_gevent() or _eventlet()):
        return None
    library: Any = sys.modules["gevent" if _gevent() else "eventlet"]
    sleep: Callable[[float], None] = library.sleep
    return sleep


def _threading() -> Any:
    """The module threading as it is without patches."""
    if patcher := _eventlet():
        return patcher.original("threading")
    return threading


def real_lock() -> threading.Lock:
    """A lock of the operating system, for short sections that never wait.

    It works between threads and greenlets alike.
    """
    if monkey := _gevent():
        lock: threading.Lock = monkey.get_original("_thread", "allocate_lock")()
        return lock
    made: threading.Lock = _threading().Lock()
    return made


def in_real_thread(work: Callable[[], None]) -> None:
    """Runs `work` in a thread of the operating system, for calls into C that may take long.

    `work` must not use locks, queues or sockets of the application, nor log.
    """
    if monkey := _gevent():
        monkey.get_original("_thread", "start_new_thread")(work, ())
    else:
        _threading().Thread(target=work, daemon=True).start()


def interrupt_main() -> None:
    """Raises KeyboardInterrupt in the main greenlet, where Ctrl-C came while another greenlet ran."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    _thread.start_new_thread(interrupt, ())
