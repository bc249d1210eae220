"""The check of `tailrace check`: whether content can be written, read and deleted."""

from __future__ import annotations

import os
import queue
import threading
from typing import Final

from tailrace.checks import Finding
from tailrace.content_store.naming import folder_of
from tailrace.content_store.store import ContentStore, open_store
from tailrace.errors import TailraceError
from tailrace.settings import Content

TENANT: Final = "tailrace-check"
"""The content of the check belongs to this tenant, and is deleted again."""


def finding(settings: Content, seconds: float) -> Finding:
    """Writes, reads and deletes some bytes. Blocks for at most `seconds`.

    Args:
        settings: The section [content], with a store.
        seconds: How long to wait for the store.

    Raises:
        ConfigError: The settings are not valid.
        MissingPackage: A package is not installed.
    """
    store = open_store(settings)
    answers: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    # a daemon: a store that hangs does not keep the process from ending
    threading.Thread(
        target=lambda: answers.put(_try(store)), name="tailrace-content-check", daemon=True
    ).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return Finding(
            False, f"content.store: no answer within {seconds:g} s; is it mounted, can it be reached?"
        )


def _try(store: ContentStore) -> Finding:
    data = os.urandom(32)
    step = "written"
    try:
        name = store.put(TENANT, data)
        step = "read"
        if store.get(TENANT, name) != data:
            return Finding(False, "content.store: what was written is not what is read")
        step = "deleted"
        if not store.delete(folder_of(TENANT), name):
            return Finding(False, "content.store: what was written cannot be deleted")
    except TailraceError as e:
        return Finding(False, f"{e}; see content.store")
    except Exception as e:
        return Finding(False, f"content.store: cannot be {step}: {type(e).__name__}")
    return Finding(True, "the content store can be written, read and swept")
