"""An asyncio loop in its own thread, on which a sink sends while the consumer's thread reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class SendLoop:
    """The thread and its loop. `submit`, `call` and `stop` must be called from other threads."""

    def __init__(self, name: str, on_done: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            name: The sink's name, for the thread's name.
            on_done: Called in the loop's thread when something submitted has ended. It must not block.
        """
        self._loop = asyncio.new_event_loop()
        self._on_done = on_done
        self._thread = threading.Thread(target=self._run, name=f"send-{name}", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts `work` on the loop. Cancelling the future cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: self._on_done())
        return future

    def call(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """Runs `work` on the loop and returns its result. Raises what `work` raises.

        Args:
            work: The coroutine.
            seconds: How long to wait; None: without limit.

        Raises:
            TimeoutError: `work` did not end in time. It is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def stop(self, seconds: float = 5.0) -> None:
        """Cancels what still runs and ends the thread. Waits up to `seconds` for that."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()
