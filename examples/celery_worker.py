"""A Celery worker: every task that ends is published, with its input, result or error.

pip install 'celery[redis]'
TAILRACE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 celery -A examples.celery_worker worker
python -c "from examples.celery_worker import answer; answer.delay('Where is order 4711?')"
"""

import os
import time
from typing import Any

from celery import Celery, Task
from celery.signals import task_postrun, task_prerun, worker_process_shutdown

from tailrace import Kind, Publisher, SpanKind, TraceEvent

app = Celery("answers", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1"))
publisher = Publisher()  # each process of the pool connects with its first event
started: dict[str, int] = {}


def now() -> int:
    return time.time_ns() // 1000


@app.task
def answer(question: str) -> str:
    if not question:
        raise ValueError("no question")
    return f"You asked: {question}"  # your model call goes here


@task_prerun.connect
def begin(task_id: str, **_: Any) -> None:
    started[task_id] = now()


@task_postrun.connect
def publish(task_id: str, task: Task, args: Any, kwargs: Any, retval: Any, state: str, **_: Any) -> None:
    ended = now()
    publisher.publish(
        TraceEvent(
            kind=Kind.SPAN,
            span_kind=SpanKind.TASK,
            name=task.name,
            source_id=task_id,
            revision=task.request.retries,
            started_at=started.pop(task_id, ended),
            ended_at=ended,
            inputs={"args": args, "kwargs": kwargs},
            outputs=retval if state == "SUCCESS" else None,
            error=None if state == "SUCCESS" else f"{state}: {retval}",
        )
    )


@worker_process_shutdown.connect
def close(**_: Any) -> None:
    """Celery ends the processes of its pool without Python's own hooks, so that nothing else would wait."""
    publisher.close(timeout=5)
