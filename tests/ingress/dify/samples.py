"""Lines as Dify 1.14 writes them: every field of every info class, and whole turns. Written by hand."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

TENANT, APP, OTHER_APP = (f"{n:08x}-0000-4000-8000-{n:012x}" for n in (0x10, 0x20, 0x21))
NOON: Final = datetime(2026, 3, 1, 12)
NOON_US: Final = 1_772_366_400_000_000
"""The same, microseconds UTC."""

Line = dict[str, Any]


def u(n: int) -> str:
    """A UUID that shows its number."""
    return f"{n:08x}-0000-4000-8000-{n:012x}"


def at(seconds: float) -> str:
    """A time as Dify writes it: without a zone, that many seconds after noon."""
    return (NOON + timedelta(seconds=seconds)).isoformat()


def us(seconds: float) -> int:
    """The same time as an event has it."""
    return NOON_US + round(seconds * 1_000_000)


def task(cls: str, info: Line, app: str | None = APP) -> Line:
    return {"app_id": app, "trace_info_type": cls, "trace_info": info}


def raw(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode()


def run(n: int, begin: float, end: float, **other: Any) -> Line:
    """A run of a workflow; with message_id and conversation_id of a chatflow."""
    parent = other.pop("parent", None)
    metadata = {
        "workflow_id": u(0x40),
        "conversation_id": other.get("conversation_id"),
        "workflow_run_id": u(n),
        "tenant_id": TENANT,
        "elapsed_time": end - begin,
        "status": other.get("workflow_run_status", "succeeded"),
        "version": "2026-02-11",
        "total_tokens": other.get("total_tokens", 0),
        "file_list": other.get("file_list", []),
        "triggered_from": "app-run",
        "user_id": u(0x30),
        "app_id": other.get("app", APP),
        "app_name": "",
        "workspace_name": "",
        **({"parent_trace_context": parent} if parent else {}),
        **other.pop("metadata", {}),
    }
    app = other.pop("app", APP)
    info = {
        "message_id": None,
        "message_data": None,
        "inputs": {"sys.query": "Where is my order?"},
        "outputs": {"answer": "It ships tomorrow."},
        "start_time": at(begin),
        "end_time": at(end),
        "trace_id": None,
        "workflow_data": None,
        "conversation_id": None,
        "workflow_app_log_id": None,
        "workflow_id": u(0x40),
        "tenant_id": TENANT,
        "workflow_run_id": u(n),
        "workflow_run_elapsed_time": end - begin,
        "workflow_run_status": "succeeded",
        "workflow_run_inputs": {"sys.query": "Where is my order?"},
        "workflow_run_outputs": {"answer": "It ships tomorrow."},
        "workflow_run_version": "2026-02-11",
        "error": "",
        "total_tokens": 0,
        "prompt_tokens": None,
        "completion_tokens": None,
        "file_list": [],
        "invoked_by": f"end_user:{u(0x30)}",
        "query": "Where is my order?",
        "metadata": metadata,
        **other,
    }
    return task("WorkflowTraceInfo", info, app)


def node(n: int, of: int, begin: float, end: float, type_: str = "code", **other: Any) -> Line:
    """The execution of a node of a run."""
    metadata = {
        "tenant_id": TENANT,
        "app_id": other.get("app", APP),
        "app_name": "",
        "workspace_name": "",
        "user_id": u(0x30),
        "invoke_from": "web-app",
        "credential_id": None,
        "credential_name": None,
        "dataset_ids": None,
        "dataset_names": None,
        "plugin_name": None,
        **other.pop("metadata", {}),
    }
    app = other.pop("app", APP)
    info = {
        "message_id": None,
        "message_data": None,
        "inputs": None,
        "outputs": None,
        "start_time": at(begin),
        "end_time": at(end),
        "trace_id": None,
        "workflow_id": u(0x40),
        "workflow_run_id": u(of),
        "tenant_id": TENANT,
        "node_execution_id": u(n),
        "node_id": f"{type_}-{n}",
        "node_type": type_,
        "title": f"{type_} {n}",
        "status": "succeeded",
        "error": None,
        "elapsed_time": end - begin,
        "index": 1,
        "predecessor_node_id": None,
        "total_tokens": 0,
        "total_price": 0.0,
        "currency": None,
        "model_provider": None,
        "model_name": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "tool_name": None,
        "iteration_id": None,
        "iteration_index": None,
        "loop_id": None,
        "loop_index": None,
        "parallel_id": None,
        "node_inputs": {"x": 1},
        "node_outputs": {"y": 2},
        "process_data": None,
        "invoked_by": u(0x30),
        "metadata": metadata,
        **other,
    }
    return task("WorkflowNodeTraceInfo", info, app)


def llm(n: int, of: int, begin: float, end: float, **other: Any) -> Line:
    """The execution of a model node, with its usage where Dify has it."""
    given = {
        "model_provider": "langgenius/openai/openai",
        "model_name": "gpt-4o",
        "total_tokens": 1540,
        "total_price": 0.0064,
        "currency": "USD",
        "process_data": {
            "model_mode": "chat",
            "prompts": [{"role": "user", "text": "Where is my order?"}],
            "usage": {
                "prompt_tokens": 1200,
                "completion_tokens": 340,
                "total_tokens": 1540,
                "prompt_price": "0.0030",
                "completion_price": "0.0034",
                "total_price": "0.0064",
                "currency": "USD",
                "time_to_first_token": 0.7,
            },
            "finish_reason": "stop",
        },
    }
    return node(n, of, begin, end, "llm", **{**given, **other})


def draft(n: int, **other: Any) -> Line:
    line = node(n, n, 0, 1, **other)
    return {**line, "trace_info_type": "DraftNodeExecutionTrace"}


def message(n: int, begin: float, end: float, mode: str = "chat", **other: Any) -> Line:
    """A turn of a chat, agent or completion application."""
    metadata = {
        "conversation_id": u(0x50),
        "ls_provider": "langgenius/openai/openai",
        "ls_model_name": "gpt-4o",
        "status": "normal",
        "from_end_user_id": u(0x30),
        "from_account_id": None,
        "agent_based": mode == "agent-chat",
        "workflow_run_id": None,
        "from_source": "api",
        "message_id": u(n),
        "tenant_id": TENANT,
        "app_id": APP,
        "user_id": u(0x30),
        "app_name": "",
        "workspace_name": "",
        **other.pop("metadata", {}),
    }
    info = {
        "message_id": u(n),
        "message_data": {
            "id": u(n),
            "query": "Where is my order?",
            "model_id": "gpt-4o",
            "provider_response_latency": end - begin,
            "total_price": "0.0064",
            "currency": "USD",
        },
        "inputs": [{"role": "user", "text": "Where is my order?"}],
        "outputs": "It ships tomorrow.",
        "start_time": at(begin),
        "end_time": at(end),
        "trace_id": None,
        "conversation_model": "gpt-4o",
        "message_tokens": 1200,
        "answer_tokens": 340,
        "total_tokens": 1540,
        "error": None,
        "file_list": [],
        "message_file_data": None,
        "conversation_mode": mode,
        "gen_ai_server_time_to_first_token": 0.82,
        "llm_streaming_time_to_generate": 3.38,
        "is_streaming_request": True,
        "metadata": metadata,
        **other,
    }
    return task("MessageTraceInfo", info)


def side(cls: str, of: int, begin: float | None, end: float | None, **other: Any) -> Line:
    """What runs beside a message. Its times are those of a timer; Dify names no tenant."""
    info = {
        "message_id": u(of),
        "message_data": None,
        "inputs": "Where is my order?",
        "outputs": None,
        "start_time": None if begin is None else at(begin),
        "end_time": None if end is None else at(end),
        "trace_id": None,
        **{"metadata": {"message_id": u(of), **other.pop("metadata", {})}},
        **other,
    }
    return task(cls, info)


def moderation(of: int, begin: float | None, end: float | None, **other: Any) -> Line:
    given = {
        "flagged": True,
        "action": "direct_output",
        "preset_response": "Please ask something else.",
        "query": "Where is my order?",
    }
    return side("ModerationTraceInfo", of, begin, end, **{**given, **other})


def suggested(of: int, begin: float | None, end: float | None, **other: Any) -> Line:
    given = {
        "outputs": "It ships tomorrow.",
        "total_tokens": 1540,
        "status": "normal",
        "error": None,
        "from_account_id": None,
        "agent_based": False,
        "from_source": "api",
        "model_provider": "langgenius/openai/openai",
        "model_id": "gpt-4o",
        "suggested_question": ["Can I change the address?", "How do I cancel?"],
        "level": "normal",
        "status_message": None,
        "workflow_run_id": None,
    }
    return side("SuggestedQuestionTraceInfo", of, begin, end, **{**given, **other})


def retrieval(of: int, begin: float | None, end: float | None, **other: Any) -> Line:
    given = {
        "documents": [
            {
                "page_content": "Order A-1001 ships on 2 March.",
                "metadata": {"dataset_id": u(0x60), "dataset_name": "Orders", "score": 0.91},
            },
            {"page_content": "Returns", "metadata": {"dataset_id": u(0x61), "dataset_name": "Terms"}},
        ],
        "error": None,
        "metadata": {
            "ls_provider": "langgenius/openai/openai",
            "ls_model_name": "gpt-4o",
            "embedding_models": {u(0x60): {"embedding_model": "e-3", "embedding_model_provider": "openai"}},
            "rerank_model_provider": "cohere",
            "rerank_model_name": "rerank-v3.5",
            "tenant_id": TENANT,
            "app_id": APP,
        },
    }
    return side("DatasetRetrievalTraceInfo", of, begin, end, **{**given, **other})


def tool(of: int, begin: float | None, end: float | None, name: str = "track_parcel", **other: Any) -> Line:
    given = {
        "tool_name": name,
        "tool_inputs": {"number": "1Z999"},
        "tool_outputs": "on its way",
        "tool_config": {"tool_provider": "acme"},
        "time_cost": 0.2,
        "tool_parameters": {"region": "eu"},
        "error": None,
        "message_file_data": None,
        "file_url": "https://files.example/label.png",
    }
    info = {**given, **other}
    repeated = {k: v for k, v in info.items() if k.startswith("tool_") or k in ("time_cost", "error")}
    return side("ToolTraceInfo", of, begin, end, **{"metadata": repeated, **info})


def name(begin: float | None, end: float | None, conversation: int = 0x50, **other: Any) -> Line:
    info = {
        "message_id": None,
        "inputs": "Where is my order?",
        "outputs": "Order status",
        "start_time": None if begin is None else at(begin),
        "end_time": None if end is None else at(end),
        "trace_id": None,
        "conversation_id": u(conversation),
        "tenant_id": TENANT,
        "metadata": {"conversation_id": u(conversation), "tenant_id": TENANT},
        **other,
    }
    return task("GenerateNameTraceInfo", info, app=None)


def prompt(**other: Any) -> Line:
    info = {
        "message_id": None,
        "inputs": {"instruction": "Write a support prompt"},
        "outputs": "You are a support agent.",
        "start_time": None,
        "end_time": None,
        "trace_id": None,
        "tenant_id": TENANT,
        "user_id": u(0x31),
        "app_id": APP,
        "operation_type": "rule_generate",
        "instruction": "Write a support prompt",
        "prompt_tokens": 100,
        "completion_tokens": 200,
        "total_tokens": 300,
        "model_provider": "langgenius/openai/openai",
        "model_name": "gpt-4o",
        "latency": 2.0,
        "total_price": 0.00225,
        "currency": "USD",
        "error": None,
        "metadata": {"tenant_id": TENANT, "user_id": u(0x31), "operation_type": "rule_generate"},
        **other,
    }
    return task("PromptGenerationTraceInfo", info, app=None)


def feedback(of: int, rating: str | None = "like", seconds: float = 60, **other: Any) -> Line:
    return {
        "case": "feedback_created",
        "tenant_id": TENANT,
        "event_id": u(0xE0),
        "payload": {
            "message_id": u(of),
            "app_id": APP,
            "conversation_id": u(0x50),
            "from_end_user_id": u(0x30),
            "from_account_id": None,
            "from_source": "api",
            "rating": rating,
            "content": "Helpful",
            "created_at": at(seconds),
            **other,
        },
    }


def app(case: str, **other: Any) -> Line:
    payload = {"app_id": APP, "mode": "advanced-chat", "created_at": at(0), "updated_at": at(1)}
    return {
        "case": case,
        "tenant_id": TENANT,
        "event_id": u(0xE1),
        "payload": {**payload, "deleted_at": at(2), **other},
    }


# -- whole turns, in the order in which Dify's operations end


def chatflow() -> list[Line]:
    turn = {"message_id": u(3), "conversation_id": u(0x50)}
    return [
        moderation(3, 0.01, 0.02),
        node(0x64, 1, 0.1, 0.2, "start"),
        llm(0x65, 1, 0.3, 3.3),
        node(0x66, 1, 3.4, 3.5, "answer"),
        name(0.5, 0.9),
        run(1, 0, 4, total_tokens=1540, prompt_tokens=1200, completion_tokens=340, **turn),
        suggested(3, 4.2, 5),
        feedback(3),
    ]


def plain_chat() -> list[Line]:
    return [
        moderation(3, 0.01, 0.02),
        retrieval(3, 0.1, 0.2),
        name(0.5, 0.9),
        message(3, 0, 4),
        suggested(3, 4.2, 5),
        feedback(3, "dislike"),
    ]


def agent() -> list[Line]:
    return [
        tool(3, 0.5, 0.7, tool_inputs={"number": "1"}),
        tool(3, 1.5, 1.7, tool_inputs={"number": "2"}),
        tool(3, 2.5, 2.6, "send_mail", time_cost=0.1, tool_parameters={}, file_url=None),
        message(3, 0, 4, "agent-chat"),
    ]


def nested() -> list[Line]:
    """A chatflow whose tool is a workflow, whose tool is a workflow. Inner runs end before outer ones."""
    second = {"parent_workflow_run_id": u(1), "parent_node_execution_id": u(0x65)}
    third = {"parent_workflow_run_id": u(2), "parent_node_execution_id": u(0x68)}
    return [
        node(0x64, 1, 0.1, 0.2, "start"),
        node(0x67, 2, 0.5, 0.6, "start", app=OTHER_APP),
        llm(0x69, 4, 1.1, 2, app=OTHER_APP),
        run(4, 1, 2.1, total_tokens=1540, parent=third, app=OTHER_APP),
        node(0x68, 2, 0.9, 2.2, "tool", tool_name="inner", app=OTHER_APP),
        run(2, 0.4, 2.3, total_tokens=1540, parent=second, app=OTHER_APP),
        node(0x65, 1, 0.3, 2.4, "tool", tool_name="outer"),
        run(1, 0, 3, total_tokens=1540, message_id=u(3), conversation_id=u(0x50)),
    ]


def iteration() -> list[Line]:
    """An iteration of two items in parallel; in each a loop of two rounds with a model."""
    lines = [node(0x64, 1, 0.1, 0.2, "start")]
    for item in (0, 1):
        of = {"iteration_id": "each", "iteration_index": item, "parallel_id": f"p{item}"}
        for round_ in (0, 1):
            begin = 1.1 + 0.4 * round_ + 0.05 * item
            inside = {**of, "loop_id": "again", "loop_index": round_}
            lines.append(llm(0x80 + 2 * item + round_, 1, begin, begin + 0.3, **inside))
        lines.append(node(0x70 + item, 1, 1 + 0.05 * item, 2 + 0.05 * item, "loop", node_id="again", **of))
    lines.append(node(0x65, 1, 0.9, 2.2, "iteration", node_id="each", total_tokens=6160))
    lines.append(run(1, 0, 3, total_tokens=6160))
    return lines


CLASSES: Final[dict[str, Line]] = {
    "WorkflowTraceInfo": run(1, 0, 4, message_id=u(3), conversation_id=u(0x50), total_tokens=30),
    "WorkflowNodeTraceInfo": llm(0x65, 1, 1, 2),
    "DraftNodeExecutionTrace": draft(0x6A),
    "MessageTraceInfo": message(3, 0, 4),
    "ModerationTraceInfo": moderation(3, 0, 1),
    "SuggestedQuestionTraceInfo": suggested(3, 4, 5),
    "DatasetRetrievalTraceInfo": retrieval(3, 0, 1),
    "ToolTraceInfo": tool(3, 0, 1),
    "GenerateNameTraceInfo": name(0, 1),
    "PromptGenerationTraceInfo": prompt(),
}
"""A line of each info class."""
TURNS: Final = {
    "chatflow": chatflow,
    "plain_chat": plain_chat,
    "agent": agent,
    "nested": nested,
    "iteration": iteration,
}
