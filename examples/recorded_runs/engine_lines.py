"""The recorded lines that trace events are made of, with only the fields that are used.

They are typed, and checked when decoded.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_price: str
    completion_price: str
    total_price: str
    currency: str
    # seconds, parsed from the number's text, without a binary fraction in between
    time_to_first_token: Decimal | None = None


class Result(msgspec.Struct, frozen=True):
    status: str
    inputs: dict[str, Any]
    process_data: dict[str, Any]
    outputs: dict[str, Any]
    metadata: dict[str, Any]
    llm_usage: Usage
    error: str
    error_type: str


class GraphNode(msgspec.Struct, frozen=True):
    id: str
    title: str


class System(msgspec.Struct, frozen=True):
    user_id: str
    app_id: str
    query: str | None = None
    conversation_id: str | None = None


class GraphStart(msgspec.Struct, frozen=True):
    """A segment starts. Only the first one of a run describes the run."""

    run_id: str
    at: datetime
    workflow_id: str
    workflow: str
    segment: int
    mode: str | None = None
    system: System | None = None
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    nodes: list[GraphNode] = msgspec.field(default_factory=list)


class GraphEnd(msgspec.Struct, frozen=True):
    """A segment ends: paused, or with the status of the run."""

    run_id: str
    at: datetime
    status: Literal["succeeded", "partial-succeeded", "failed", "stopped", "paused"]
    error: str | None
    elapsed: Decimal  # seconds of this segment; the other fields cover the run so far
    outputs: dict[str, Any]
    total_tokens: int
    llm_usage: Usage
    node_run_steps: int
    exceptions_count: int


class StartedData(msgspec.Struct, frozen=True):
    id: str
    node_id: str
    node_type: str
    container_id: str
    start_at: datetime
    provider_id: str
    node_run_result: Result


class NodeStarted(msgspec.Struct, frozen=True):
    run_id: str
    parent_execution_id: str | None
    data: StartedData


class ContainerData(msgspec.Struct, frozen=True):
    id: str
    inputs: dict[str, Any]


class ContainerStarted(msgspec.Struct, frozen=True):
    """An iteration or loop begins its first round; follows its NodeStarted."""

    run_id: str
    data: ContainerData


class RetriedData(msgspec.Struct, frozen=True):
    id: str
    start_at: datetime
    error: str
    node_run_result: Result


class NodeRetried(msgspec.Struct, frozen=True):
    """An attempt failed, and the engine retries."""

    run_id: str
    data: RetriedData


class EndedData(msgspec.Struct, frozen=True):
    id: str
    start_at: datetime  # of the last attempt
    finished_at: datetime
    node_run_result: Result
    error: str = ""


class NodeEnded(msgspec.Struct, frozen=True):
    run_id: str
    data: EndedData


class EdgeData(msgspec.Struct, frozen=True):
    container_id: str
    frame_id: str  # "root", or "<opaque id>:iteration:<round>", "...:loop:<round>"
    source_node_id: str
    target_node_id: str


class EdgeTaken(msgspec.Struct, frozen=True):
    run_id: str
    data: EdgeData


Line = GraphStart | GraphEnd | NodeStarted | ContainerStarted | NodeRetried | NodeEnded | EdgeTaken
