"""`PromptGenerationTraceInfo`: a prompt, code or schema that Dify's editor generated. Pure."""

from __future__ import annotations

from ingress.dify.operation import Operation
from ingress.dify.task import Task
from ingress.dify.usage import currency
from ingress.dify.zones import TIMERS
from tailrace.records import Kind


def read(task: Task) -> Operation:
    """The operation of a generation: a trace of its own. Raises `InvalidEvent`: a time is not valid."""
    info = task.info
    fields = task.common(TIMERS)
    latency = info.seconds("latency")
    error = info.text("error")
    operation = info.text("operation_type")
    made = info.value("outputs")
    fields.update(
        name=operation,
        operation_type=operation,
        status="failed" if error else "succeeded",
        error=error,
        model_provider=info.text("model_provider"),
        model_name=info.text("model_name"),
        input_tokens=info.count("prompt_tokens"),
        output_tokens=info.count("completion_tokens"),
        total_tokens=info.count("total_tokens"),
        total_price=info.price("total_price"),
        currency=currency(info),
    )
    return Operation(
        Kind.PROMPT_GENERATION,
        task.no_id(),
        fields,
        body={
            "instruction": info.text("instruction"),
            "output": made if isinstance(made, str) and made and _is_sound(made) else None,
            "latency": latency,
        },
        notes=task.notes,
        duration=latency,
    )


def _is_sound(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
