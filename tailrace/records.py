"""Every record type as a Python class.

Generated from schemas/*.avsc by tools/schemas.py (`make schemas`). Do not edit.
Instances hold no cycles, so the garbage collector does not track them (gc=False).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Content = Any
"""Anything that JSON can represent. A `tailrace.JsonText` is JSON already; a plain str becomes a JSON string."""


class ControlSubject(enum.StrEnum):
    UNKNOWN = "unknown"
    JOB = "job"
    SINK = "sink"
    SETTINGS = "settings"
    ACCOUNT = "account"


class ControlRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """State of something that the pipeline manages; value of trace.control. The newest record of a key is the
    state."""

    subject: ControlSubject
    """What it is about: a replay job, a sink's stop or start, a fingerprint of settings, or the closed account
    of a consumer group."""
    name: str
    """Id of the job, instance of the sink, name of the process, or consumer group."""
    state: str
    """State of the subject, e.g. running, stopped, closed."""
    at: int
    """When it changed, microseconds UTC."""
    by: str | None = None
    """Who changed it: host and process."""
    reason: str | None = None
    """Why, for people."""
    fingerprint: str | None = None
    """Hash of the settings that it applies to."""
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Its counts, e.g. delivered, filtered, dead_lettered."""
    details: str | None = None
    """Further details, JSON text."""


class Stage(enum.StrEnum):
    UNKNOWN = "unknown"
    DECODE = "decode"
    APPLY = "apply"
    MAP = "map"
    SEND = "send"
    RESOLVE = "resolve"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A record that could not be read, applied or delivered; value of trace.dead-letters."""

    dead_letter_id: str
    """Deterministic: stage, sink, topic, partition and offset."""
    stage: Stage
    """Where it failed."""
    reason: str
    """Short machine-readable reason, e.g. truncated, unknown_schema, too_large, rejected."""
    detail: str
    """What exactly failed, for people."""
    sink: str | None = None
    """Instance of the sink; null: the processor."""
    topic: str
    """Topic of the record."""
    partition: int
    """Its partition."""
    offset: int
    """Its offset."""
    sequence: int | None = None
    """Its sequence number, if it has one."""
    appended_at: int
    """Its append time."""
    failed_at: int
    """When it was dead-lettered; for the processor: the append time."""
    event_id: str | None = None
    """If readable."""
    trace_id: str | None = None
    """If readable."""
    kind: str | None = None
    """If readable."""
    tenant_id: str | None = None
    """If readable."""
    app_id: str | None = None
    """If readable."""
    key: bytes | None = None
    """Key of the record."""
    raw: bytes | None = None
    """The record's bytes, truncated to the topic's limit."""
    raw_size: int
    """Size in bytes before truncation."""
    raw_sha256: bytes | None = None
    """Digest of the whole record, if raw is truncated."""
    request: str | None = None
    """Redacted request to the sink."""
    response_status: int | None = None
    """HTTP status of the answer."""
    response: str | None = None
    """Known fields of the answer."""
    resolution: str | None = None
    """redriven or dropped; on resolution records only."""
    attempts: int = 0
    """Delivery attempts."""


class DedupeBucket(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Hashes of events seen within one bucket of append time; value of trace.state, key d/<bucket>/<piece>."""

    hashes: bytes
    """8 bytes per event: the BLAKE2b of its event_id; if it has a tenant, of event_id, the byte FF and the
    tenant."""


class MetricGroup(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Counts of events that belong to the same series, since the group began; value of trace.state, key
    g/<number>."""

    kind: str
    """Kind of the events."""
    labels: Sequence[str]
    """Label values in the order of streams/processing/metrics/grouping.py; empty if the events have none."""
    datasets: Sequence[str]
    """Datasets searched."""
    started_at: int
    """Append time of the first event."""
    appended_at: int
    """Append time of the last event."""
    touched: int
    """Source offset of the last event."""
    values: bytes
    """The counts; layout in streams/processing/metrics/distribution.py."""


class MetricMinute(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Counts of a metric group in one event-time minute; value of trace.state, key m/<group>/<minute>."""

    touched: int
    """Source offset of the last event."""
    values: bytes
    """The counts; layout in streams/processing/metrics/distribution.py."""


class MetricRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Absolute value of one series in one event-time minute of one partition; value of trace.metrics."""

    partition: int
    """Source partition."""
    minute: int
    """Start of the minute, microseconds UTC."""
    metric: str
    """Metric name, e.g. dify.tokens.total."""
    labels: Mapping[str, str]
    """Label values."""
    unit: str
    """Unit, as in seed 003."""
    count: int
    """Observations."""
    sum: int
    """Sum: tokens, microseconds or 1e-12 of the currency."""
    minimum: int | None = None
    """Smallest observation."""
    maximum: int | None = None
    """Largest observation."""
    bounds: Sequence[int] = ()
    """Upper bounds of the histogram's buckets, unit of sum; empty for counters."""
    buckets: Sequence[int] = ()
    """Observations per bucket; one more than there are bounds."""
    source_offset: int
    """Last source offset counted."""


class MetricTotal(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Cumulative value of one series of one partition since started_at; value of trace.totals."""

    partition: int
    """Source partition."""
    metric: str
    """Metric name."""
    labels: Mapping[str, str]
    """Label values."""
    unit: str
    """Unit."""
    started_at: int
    """Start of the series, microseconds UTC; another value means that the series was reset."""
    updated_at: int
    """Append time of the last event counted."""
    count: int
    """Observations."""
    sum: int
    """Sum, as in MetricRow."""
    bounds: Sequence[int] = ()
    """As in MetricRow."""
    buckets: Sequence[int] = ()
    """As in MetricRow."""
    source_offset: int
    """Last source offset counted."""


class PartitionPosition(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Position and counts of a partition's owner; value of trace.state, key p. Written in the same transaction
    as the records it counts."""

    topic_id: str
    """Id of trace.events when the partition was first read; a recreated topic has another."""
    partitions: int
    """Partition count of trace.events in this generation."""
    generation: int
    """Generation of the partitioning. Sequence numbers start again in each."""
    app_id: str
    """streams.app_id of the processor that works here; one with another id refuses to start."""
    placed_from: int
    """Records of trace.events below this offset may have been published under another partition count, and are
    applied wherever they are."""
    next_offset: int
    """Next offset to read from trace.events, past transaction markers that were read."""
    sequence: int
    """Next sequence number to assign."""
    appended_at: int
    """The partition's clock: the latest append time, but a single record moves it ahead by an hour at most."""
    ahead_at: int = 0
    """Append time of the last record if it was further ahead of the clock: the next one confirms it. 0: it was
    not."""
    events_in: int
    """Records read."""
    enriched: int
    """Records written to trace.enriched."""
    links: int
    """Link records applied."""
    duplicates: int
    """Events dropped as duplicates."""
    dead_lettered: int
    """Records written to trace.dead-letters."""
    evicted: int
    """Traces evicted from the state."""
    units: int
    """Transactions committed."""
    flushed: int
    """Offset up to which metric rows, series and summaries are written; what changed later is written again
    after a restart."""
    corrections: int
    """Events with a revision above 0, which no metric counts."""
    skewed: int
    """Events that start more than an hour after their append time: in the totals, in no minute row."""
    late: int
    """Events whose minute is beyond the horizon: in the totals, in no minute row."""
    overflowed: int
    """Events counted as __overflow__, because of too many label values."""
    oldest_minute: int
    """Minute (since 1970) below which rows are closed, by the horizon or the limit."""
    groups: int
    """Next number of a metric group."""
    summaries: int
    """Summaries written."""
    split_runs: int
    """Runs whose first events came before their link and named no caller, so that they are traces of their
    own."""
    forgotten_starts: int
    """Starts of traces that were dropped, because they took too much memory."""
    forgotten_before: int
    """Traces that left the state at this append time or earlier may be forgotten; 0: none is."""
    forgotten_links: int
    """Links that were dropped, because they took too much memory."""


class RunLink(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """States that a run belongs to a root; value of trace.state, key l/<run>, or l/<run>, the byte FF and the
    tenant, if another tenant has the same run."""

    appended_at: int
    """Append time of the link."""
    offset: int
    """Source offset of the link: the order of eviction."""
    root_trace_id: str
    """Trace id of the root."""
    root_run_id: str | None = None
    """Workflow run of the root, if it has one."""
    root_app_id: str | None = None
    """Application of the root, if known."""
    root_started_at: int | None = None
    """Start of the root, if known."""
    tenant_id: str | None = None
    """Tenant of the root, if known."""
    split: bool = False
    """Whether events of the run came before the link and named no caller, so that they are a trace of their own
    (mark run_split)."""


class ParentKind(enum.StrEnum):
    NONE = "none"
    OPERATION = "operation"
    RUN = "run"
    NODE = "node"
    MESSAGE = "message"


class TraceContext(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What the processor adds to an event: one Kafka header (tailrace-context) next to the event's own bytes.
    Fields that differ per event come first, fields that a trace's events share come last."""

    generation: int
    """Generation of the partitioning; sequence restarts with it."""
    sequence: int
    """Dense number of this record in its partition and generation, from 0."""
    source_offset: int
    """Offset of the event in trace.events."""
    appended_at: int
    """Append time of the event in trace.events, milliseconds UTC."""
    span_id: bytes
    """OpenTelemetry span id of the event."""
    parent_span_id: bytes | None = None
    """Span id of the structural parent."""
    parent_source_id: str | None = None
    """source_id of the structural parent: parent_id, else the calling node, else the workflow run (nodes), else
    the message."""
    parent_kind: ParentKind
    """What the structural parent is."""
    marks: Sequence[str]
    """clock_skew, negative_duration, self_parent, superseded, root_inferred, run_split (earlier events of its
    run named no caller and are in another trace), start_unknown (the trace may have had another start before),
    price_zero (a price of 0 was taken for a missing one), price_unusable (the price cannot be read, or is
    negative), token_classes_ignored."""
    linked_span_id: bytes | None = None
    """Span id of the calling run, if the root was inferred (mark root_inferred). Sinks write a span link to it,
    in run_trace_id."""
    provider_name: str | None = None
    """model_provider as OpenTelemetry names it (gen_ai.provider.name), e.g. openai for
    langgenius/openai/openai."""
    request_model: str | None = None
    """model_name as OpenTelemetry names it (gen_ai.request.model): without a provider's path."""
    tool_name: str | None = None
    """Tool that ran: tool_name, else the display name of an operation that is a tool by its kind, node type or
    span kind."""
    dataset_names: Sequence[str] = ()
    """Names of the datasets in dataset_ids, if the event or earlier events of the trace have them."""
    estimated_cost: str | None = None
    """Cost in US dollars, decimal text, from a price table; only if the event has tokens and a model, and its
    price is missing, unusable, or 0 although the tokens cost something."""
    price_table: str | None = None
    """Table of estimated_cost and its version, e.g. genai-prices 0.2.3."""
    run_trace_id: bytes
    """OpenTelemetry trace id by seed 003, section 5: of the root run, else the run, else trace_id."""
    message_trace_id: bytes
    """OpenTelemetry trace id rooted at the message, if there is one: of the root's trace_id."""
    root_trace_id: str | None = None
    """Business trace id of the root."""
    root_run_id: str | None = None
    """Workflow run id of the root, if it has one."""
    trace_started_at: int
    """Start of the trace as first known in this log, microseconds UTC: of the root if the first event states
    it, else of that event. The same on every event of the trace in the log, unless it was forgotten (mark
    start_unknown)."""
    user_id: str | None = None
    """The trace's user: first non-null in the log."""
    session_id: str | None = None
    """The trace's session."""
    conversation_id: str | None = None
    """The trace's conversation."""
    tenant_id: str | None = None
    """The trace's tenant."""
    app_id: str | None = None
    """The trace's application."""
    app_name: str | None = None
    """The trace's application name."""
    workspace_name: str | None = None
    """The trace's workspace name."""


class Kind(enum.StrEnum):
    UNKNOWN = "unknown"
    WORKFLOW_RUN = "workflow_run"
    NODE_EXECUTION = "node_execution"
    DRAFT_NODE_EXECUTION = "draft_node_execution"
    MESSAGE = "message"
    MODERATION = "moderation"
    SUGGESTED_QUESTION = "suggested_question"
    DATASET_RETRIEVAL = "dataset_retrieval"
    TOOL = "tool"
    GENERATE_NAME = "generate_name"
    PROMPT_GENERATION = "prompt_generation"
    SPAN = "span"
    FEEDBACK = "feedback"
    APP_CREATED = "app_created"
    APP_UPDATED = "app_updated"
    APP_DELETED = "app_deleted"
    REHYDRATION_FAILED = "rehydration_failed"
    LINK = "link"
    EVALUATION = "evaluation"


class TokenClasses(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Tokens that are billed or reported by class. A class is part of the count that its doc names, never
    beside it."""

    cache_read: int | None = None
    """Read from the provider's prompt cache. Part of input_tokens."""
    cache_write: int | None = None
    """Written to the provider's prompt cache. Part of input_tokens."""
    cache_write_1h: int | None = None
    """Written for an hour. Part of cache_write; the rest of it was written for the provider's usual time."""
    reasoning: int | None = None
    """Spent on reasoning. Part of output_tokens."""
    input_audio: int | None = None
    """Audio. Part of input_tokens."""
    input_image: int | None = None
    """Images. Part of input_tokens."""
    cache_read_audio: int | None = None
    """Audio that was read from the cache. Part of both cache_read and input_audio."""
    output_audio: int | None = None
    """Audio. Part of output_tokens."""
    output_image: int | None = None
    """Images. Part of output_tokens."""


class SpanKind(enum.StrEnum):
    TASK = "task"
    LLM = "llm"
    CHAIN = "chain"
    TOOL = "tool"
    RETRIEVER = "retriever"
    EMBEDDING = "embedding"
    AGENT = "agent"
    GUARDRAIL = "guardrail"
    RERANKER = "reranker"


class EvaluationTarget(enum.StrEnum):
    UNKNOWN = "unknown"
    TRACE = "trace"
    OPERATION = "operation"
    SESSION = "session"


class ChangeKind(enum.StrEnum):
    UNKNOWN = "unknown"
    CUT = "cut"
    CONVERTED = "converted"


class ContentChange(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A change that the publisher made to a field, so that it fits or can be written."""

    field: str
    """Path of the field, e.g. inputs or tool.tool_outputs."""
    change: ChangeKind
    """cut: a part is missing. converted: values that JSON cannot represent became text, lists or objects."""
    count: int = 0
    """Of converted: how many values."""
    bytes: int = 0
    """Of cut: size before, bytes of UTF-8; a lower bound if it was far too large."""


class ContentRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A reference to content that is stored outside the event."""

    field: str
    """Path of the field whose content is stored, e.g. outputs."""
    tenant_id: str | None = None
    """Tenant whose store holds it."""
    hash: str
    """Hash of the content with its algorithm, e.g. sha256:9f86d0…; its name in the store."""
    bytes: int
    """Size in bytes."""
    media_type: str | None = None
    """Media type, e.g. application/json."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Who and what caused the operation."""

    from_source: str | None = None
    """Message source: api, console, ..."""
    from_end_user_id: str | None = None
    """Sending end user."""
    from_account_id: str | None = None
    """Sending account."""
    invoked_by: str | None = None
    """User id that triggered the run or node."""
    triggered_from: str | None = None
    """Source that triggered the run, e.g. app-run."""
    agent_based: bool | None = None
    """Whether the message is agent based."""
    created_by_role: str | None = None
    """Role of the creator."""
    created_user_id: str | None = None
    """User id of the creator."""
    workflow_app_log_id: str | None = None
    """Workflow application log id."""
    message_status: str | None = None
    """Status of the message that a side operation belongs to; the operation's own is status."""
    message_data: Content = None
    """Message record, JSON text."""
    message_file_data: Content = None
    """File record of the message, JSON text."""
    message_file_id: str | None = None
    """Message file id."""
    file_list: Sequence[str] = ()
    """Files processed: ids or URLs."""


class WorkflowRun(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of workflow_run."""

    workflow_id: str | None = None
    """Workflow definition id."""
    workflow_version: str | None = None
    """Workflow version."""
    query: str | None = None
    """User query of a chat workflow."""
    elapsed_time: int | None = None
    """Execution time as the engine measured it, microseconds, without pauses."""
    steps: int | None = None
    """Node runs."""
    exceptions_count: int | None = None
    """Failed attempts, including retried ones."""


class NodeExecution(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of node_execution and draft_node_execution."""

    node_id: str | None = None
    """Node id in the graph."""
    workflow_id: str | None = None
    """Workflow definition id."""
    index: int | None = None
    """Execution order in the run, from 1."""
    predecessor_node_id: str | None = None
    """Node that triggered this one."""
    iteration_id: str | None = None
    """Node id of the iteration."""
    iteration_index: int | None = None
    """Round of the iteration, from 0."""
    loop_id: str | None = None
    """Node id of the loop."""
    loop_index: int | None = None
    """Round of the loop, from 0."""
    parallel_id: str | None = None
    """Parallel branch."""
    elapsed_time: int | None = None
    """Execution time as the engine measured it, microseconds."""
    process_data: Content = None
    """Internal processing data, JSON text."""
    plugin_id: str | None = None
    """Plugin id."""
    credential_id: str | None = None
    """Credential id (never the secret)."""
    credential_name: str | None = None
    """Credential name."""
    dataset_names: Sequence[str] = ()
    """Names of dataset_ids, in that order."""
    model_mode: str | None = None
    """chat or completion."""
    finish_reason: str | None = None
    """Why the model stopped."""
    retry_count: int | None = None
    """Failed attempts before this result."""
    retries: Content = None
    """Failed attempts, JSON text."""
    metadata: Content = None
    """Further metadata of the node as its engine has it, e.g. Dify's tool_info, JSON text."""


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of message."""

    conversation_model: str | None = None
    """Conversation model."""
    model_id: str | None = None
    """Model id of the message."""
    query: str | None = None
    """The user's query."""
    provider_response_latency: int | None = None
    """Microseconds the provider took."""
    streaming: bool | None = None
    """Whether the answer was streamed."""
    time_to_generate: int | None = None
    """Microseconds from the first token to the last."""


class Moderation(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of moderation."""

    moderation_type: str | None = None
    """input or output."""
    action: str | None = None
    """pass, block, flag, direct_output, overridden."""
    flagged: bool | None = None
    """Whether the content was flagged."""
    categories: Sequence[str] = ()
    """Flagged categories."""
    preset_response: str | None = None
    """Preset response."""
    query: str | None = None
    """Content moderated."""


class SuggestedQuestion(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of suggested_question."""

    questions: Sequence[str] = ()
    """Questions generated."""
    level: str | None = None
    """Status level."""
    status_message: str | None = None
    """Status message."""


class DatasetRetrieval(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of dataset_retrieval."""

    query: str | None = None
    """Search query."""
    documents: Content = None
    """Documents retrieved, JSON array as text."""
    document_count: int | None = None
    """Number of documents."""
    dataset_names: Sequence[str] = ()
    """Names of dataset_ids, in that order."""
    embedding_models: str | None = None
    """dataset id -> embedding model and provider, JSON text."""
    rerank_model_provider: str | None = None
    """Rerank model provider."""
    rerank_model_name: str | None = None
    """Rerank model."""


class Tool(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of tool."""

    call_id: str | None = None
    """Id of the tool call."""
    description: str | None = None
    """Tool description."""
    tool_inputs: Content = None
    """Arguments, JSON text."""
    tool_outputs: Content = None
    """Result, JSON text."""
    tool_config: Content = None
    """Configuration, JSON text."""
    tool_parameters: Content = None
    """Parameters, JSON text."""
    time_cost: int | None = None
    """Microseconds the tool took, as measured by its caller."""
    file_urls: Sequence[str] = ()
    """URLs of associated files."""


class PromptGeneration(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of prompt_generation."""

    instruction: str | None = None
    """Instruction given."""
    output: str | None = None
    """What was generated."""
    latency: int | None = None
    """Microseconds the model took."""


class Span(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of span."""

    otel_kind: str | None = None
    """OpenTelemetry span kind: internal, client, server, producer, consumer."""
    scope_name: str | None = None
    """Instrumentation scope."""
    scope_version: str | None = None
    """Version of the scope."""
    trace_state: str | None = None
    """W3C tracestate."""
    finish_reason: str | None = None
    """Why the model stopped."""
    attributes_json: Content = None
    """All span attributes with their types, JSON text."""
    events: Content = None
    """Span events, JSON array as text."""
    links: str | None = None
    """Span links, JSON array as text."""
    resource: str | None = None
    """Resource attributes, JSON text."""


class Feedback(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of feedback."""

    content: str | None = None
    """Feedback text."""
    feedback_id: str | None = None
    """Id of the feedback record."""


class EvaluationSource(enum.StrEnum):
    UNKNOWN = "unknown"
    PERSON = "person"
    MODEL = "model"
    CODE = "code"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of evaluation: a result about a trace, an operation or a session. Its name is the event's name. It
    has a number, a label, both, or a flag."""

    number: float | None = None
    """Score, finite."""
    label: str | None = None
    """Category, e.g. correct."""
    flag: bool | None = None
    """Result of a yes-or-no evaluation."""
    explanation: str | None = None
    """Why the evaluator decided so."""
    source: EvaluationSource | None = None
    """Who evaluated: a person, a model as judge, or code."""
    evaluator: str | None = None
    """Name of the evaluator: a person's id, a prompt, a function."""
    evaluator_version: str | None = None
    """Version of the evaluator."""


class RehydrationFailed(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Body of rehydration_failed."""

    payload_type: str | None = None
    """workflow, node, message, ..."""
    correlation_id: str | None = None
    """Correlation id of the failed payload."""


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """One ended operation of an LLM application, complete and immutable. Header first: a reader may stop after
    the field named by header_last."""

    event_id: str | None = None
    """Id of this event; the dedupe key. Publishers derive it from kind, trace_id, source_id and revision."""
    revision: int = 0
    """0 for the first event of an operation; a correction is the same source_id with a higher one."""
    kind: Kind
    """What ended. link is a control record (nested run -> root), not an operation."""
    trace_id: str | None = None
    """Business trace id: the draft's node execution id, else the message id, else the workflow run id, else
    otel_trace_id in hex digits, else source_id. Null for app_*, rehydration_failed and the evaluation of a
    session."""
    source_id: str | None = None
    """The operation's own id: workflow run id, node execution id, message id, else otel_span_id in hex
    digits."""
    parent_id: str | None = None
    """source_id of the operation that directly contains this one (an iteration's or loop's node execution, an
    agent's span)."""
    parent_trace_id: str | None = None
    """Nested run: trace_id of the run that called this one."""
    parent_run_id: str | None = None
    """Nested run: workflow run id of the caller."""
    parent_node_execution_id: str | None = None
    """Nested run: node execution that called this run."""
    parent_app_id: str | None = None
    """Nested run: application of the caller."""
    root_trace_id: str | None = None
    """trace_id of the outermost trace, if the publisher knows it."""
    root_run_id: str | None = None
    """Workflow run id of the outermost run, if the publisher knows it."""
    root_app_id: str | None = None
    """Application of the outermost run, if the publisher knows it."""
    root_started_at: int | None = None
    """Start of the outermost operation, microseconds UTC, if the publisher knows it."""
    tenant_id: str | None = None
    """Tenant (workspace) id."""
    app_id: str | None = None
    """Application id."""
    workflow_run_id: str | None = None
    """Workflow run that the operation belongs to."""
    message_id: str | None = None
    """Message (conversation turn) that the operation belongs to."""
    conversation_id: str | None = None
    """Conversation; the session at the backends. Never a parent."""
    user_id: str | None = None
    """Who triggered it: end user or account id."""
    session_id: str | None = None
    """Session id given by the caller (X-Trace-Session-Id), or the end user's session."""
    external_trace_id: str | None = None
    """Trace id given by the caller's caller; an attribute or link at the backends."""
    otel_trace_id: bytes | None = None
    """Native OpenTelemetry trace id; overrides the derived one."""
    otel_span_id: bytes | None = None
    """Native OpenTelemetry span id; overrides the derived one."""
    otel_parent_span_id: bytes | None = None
    """Native OpenTelemetry parent span id."""
    host_name: str | None = None
    """Host that published (resource attribute host.name)."""
    environment: str | None = None
    """Deployment environment, e.g. production."""
    app_name: str | None = None
    """Application name."""
    workspace_name: str | None = None
    """Workspace (tenant) name."""
    name: str | None = None
    """Display name: node title, tool name, span name."""
    started_at: int
    """Start, microseconds UTC."""
    ended_at: int
    """End, microseconds UTC."""
    published_at: int | None = None
    """When the publisher accepted the event, microseconds UTC."""
    status: str | None = None
    """running, succeeded, failed, stopped, partial-succeeded, paused, exception; null if the kind has none."""
    error: str | None = None
    """Error text of a failed operation."""
    error_type: str | None = None
    """Class of the error."""
    model_provider: str | None = None
    """Model provider, e.g. openai."""
    model_name: str | None = None
    """Model, e.g. gpt-4."""
    response_model: str | None = None
    """Model that answered, as the provider names it, e.g. gpt-4o-2024-08-06. It is looked up before model_name
    when a price is estimated."""
    service_tier: str | None = None
    """Tier of service that the provider billed, as it names it, e.g. default, batch, flex, priority."""
    input_tokens: int | None = None
    """Prompt tokens, all of them: also those that were read from or written to a cache."""
    output_tokens: int | None = None
    """Completion tokens, all of them: also those spent on reasoning."""
    total_tokens: int | None = None
    """All tokens of the operation, as its source counted them."""
    token_classes: TokenClasses | None = None
    """Token counts by class; null if the source counts none. Classes that do not fit the totals are ignored
    (mark token_classes_ignored)."""
    usage_repeats: bool | None = None
    """Whether tokens and price repeat those of other operations (a roll-up), so that sums leave them out. Null:
    true for workflow_run, for message with a workflow_run_id, for dataset_retrieval, for nodes of type
    iteration and loop, and for spans of kind agent, chain and task; else false."""
    input_price: str | None = None
    """Price of the prompt, decimal text."""
    output_price: str | None = None
    """Price of the completion, decimal text."""
    total_price: str | None = None
    """Total price, decimal text. Null: input_price and output_price added up, if both are given. 0 counts as
    missing where a price table has a price for the tokens."""
    currency: str | None = None
    """ISO 4217 code of the prices. Null: USD."""
    node_type: str | None = None
    """Workflow node type: llm, tool, iteration, ..."""
    span_kind: SpanKind | None = None
    """Kind of a span event, by OpenInference's names."""
    tool_name: str | None = None
    """Tool that ran."""
    plugin_name: str | None = None
    """Plugin of a tool or knowledge node."""
    dataset_ids: Sequence[str] = ()
    """Datasets searched."""
    operation_type: str | None = None
    """Of prompt_generation: rule_generate, code_generate, structured_output, instruction_modify."""
    invoke_from: str | None = None
    """Source of the trigger: api, webapp, debug, ... Publishers fill it from origin.triggered_from."""
    rating: str | None = None
    """Of feedback: like or dislike; null withdraws it."""
    evaluation_target: EvaluationTarget | None = None
    """Of evaluation: what was evaluated. trace: that of trace_id. operation: that of parent_id. session: that
    of conversation_id, else of session_id; it belongs to no trace."""
    mode: str | None = None
    """Application or conversation mode: chat, completion, agent-chat, workflow, ..."""
    time_to_first_token: int | None = None
    """Microseconds from start to the first token. Last field of the header."""
    tags: Sequence[str] = ()
    """Free tags."""
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """A few free attributes; bulk metadata belongs in the JSON text of a body."""
    content_changes: Sequence[ContentChange] = ()
    """What the publisher changed in this event. Empty: nothing."""
    content_refs: Sequence[ContentRef] = ()
    """Content of this event that is in a content store. Not written yet."""
    origin: Origin | None = None
    """Where the operation came from."""
    workflow_run: WorkflowRun | None = None
    """Set for kind workflow_run."""
    node_execution: NodeExecution | None = None
    """Set for kinds node_execution and draft_node_execution."""
    message: Message | None = None
    """Set for kind message."""
    moderation: Moderation | None = None
    """Set for kind moderation."""
    suggested_question: SuggestedQuestion | None = None
    """Set for kind suggested_question."""
    dataset_retrieval: DatasetRetrieval | None = None
    """Set for kind dataset_retrieval."""
    tool: Tool | None = None
    """Set for kind tool; the message's own inputs and outputs are in inputs and outputs."""
    prompt_generation: PromptGeneration | None = None
    """Set for kind prompt_generation."""
    span: Span | None = None
    """Set for kind span."""
    feedback: Feedback | None = None
    """Set for kind feedback."""
    evaluation: Evaluation | None = None
    """Set for kind evaluation."""
    rehydration_failed: RehydrationFailed | None = None
    """Set for kind rehydration_failed."""
    inputs: Content = None
    """Inputs, JSON text."""
    outputs: Content = None
    """Outputs, JSON text."""


class TraceOperations(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A full chunk of an open trace's operations, written once; value of trace.state, key o/<trace>/<chunk>."""

    fixed: bytes
    """The fixed-size parts of the operations; layout in streams/processing/operations.py."""
    texts: bytes
    """Their texts, in the same order."""


class TraceStarts(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Starts of traces that have left the state; value of trace.state, key s/<number>."""

    left_at: int
    """Append time at which the last of them left."""
    entries: bytes
    """20 bytes for each trace, little-endian: 8 of the BLAKE2b of its key in trace.state, 8 of its start in
    microseconds UTC, and 4 whose bits are, from the lowest: its run has no caller; its start is not certain; 30
    of its tenant's BLAKE2b, 0 if it is not known."""


class RootSource(enum.StrEnum):
    OWN = "own"
    HEADER = "header"
    LINK = "link"
    INFERRED = "inferred"


class TraceState(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """An open trace as its partition's owner knows it; value of trace.state, key t/<trace>, or t/<trace>, the
    byte FF and the tenant, if another tenant has the same trace id."""

    appended_at: int
    """Append time of the latest event."""
    touched: int
    """Source offset of the latest event: the order of eviction."""
    ended: bool
    """Whether the root has ended."""
    certain: bool = False
    """Whether an event showed that the run of this trace has no caller."""
    start_unknown: bool = False
    """Whether the trace may have had another start before (mark start_unknown)."""
    root_trace_id: str | None = None
    """As in the context."""
    root_run_id: str | None = None
    """As in the context."""
    started_at: int
    """Start of the trace as first known. From root_trace_id to workspace_name the fields are in the order of
    TraceContext."""
    user_id: str | None = None
    """Sticky."""
    session_id: str | None = None
    """Sticky."""
    conversation_id: str | None = None
    """Sticky."""
    tenant_id: str | None = None
    """Sticky."""
    app_id: str | None = None
    """Sticky."""
    app_name: str | None = None
    """Sticky."""
    workspace_name: str | None = None
    """Sticky."""
    root: RootSource
    """How the root is known."""
    otel_trace_id: bytes | None = None
    """Native OpenTelemetry trace id, if an event had one."""
    events: int
    """Events applied."""
    runs: Sequence[str] = ()
    """Runs of this trace whose link is in the log."""
    revisions: bytes
    """Highest revisions of corrected operations: 8 bytes of the source_id's BLAKE2b and 4 of the revision,
    each; the latest thousand."""
    part: int
    """Source offset of the first event: names this part of the trace's summary."""
    chunks: int
    """Full chunks of operations written so far (TraceOperations, key o/<trace>/<chunk>)."""
    currencies: Sequence[str]
    """Currencies of the operations' prices, in the order of their index."""
    datasets: Mapping[str, str]
    """Dataset id -> name, from events of the trace; the first 100."""
    fixed: bytes
    """The fixed-size parts of the operations after the last full chunk; layout in
    streams/processing/operations.py."""
    texts: bytes
    """Their texts."""
    beyond: bytes
    """Sums of the operations that are not kept individually; JSON, empty if none."""


class SlowOperation(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A slow operation."""

    source_id: str
    """Operation."""
    name: str | None = None
    """Its name."""
    duration: int
    """Microseconds."""


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Summary of a trace, or of one part of it if the trace was evicted in between; value of trace.summaries,
    key <trace>/<partition>/<part>."""

    trace_id: str
    """Business trace id of the root."""
    partition: int
    """Partition of trace.events that the events were read from."""
    part: int
    """Source offset of the first event of this part. A part begins with the trace's first event, or with the
    first event after an eviction. The parts of a trace add up."""
    revision: int
    """Events in this part; grows with every rewrite."""
    complete: bool
    """Whether the root has ended and is in this part."""
    truncated: bool
    """Whether the part has more operations than are kept individually. Sums stay exact; slowest operations,
    path and first error cover the kept ones only, and corrections of the others count as further operations."""
    run_trace_id: bytes
    """OpenTelemetry trace id by seed 003, section 5."""
    tenant_id: str | None = None
    """Tenant."""
    app_id: str | None = None
    """Application."""
    user_id: str | None = None
    """User."""
    session_id: str | None = None
    """Session."""
    conversation_id: str | None = None
    """Conversation."""
    name: str | None = None
    """Name of the root, else of the application."""
    status: str | None = None
    """Status of the root."""
    started_at: int
    """Earliest start, microseconds UTC."""
    ended_at: int
    """Latest end, microseconds UTC; not before started_at."""
    duration: int
    """Duration of the root, microseconds; without a root, from the earliest start to the latest end."""
    counts: Mapping[str, int]
    """Operations by kind; a correction replaces what it corrects."""
    errors: int
    """Failed operations."""
    first_error: str | None = None
    """Error text of the operation that failed first, ordered by end and source_id; at most 300 bytes."""
    first_error_source_id: str | None = None
    """source_id of that operation."""
    input_tokens: int
    """Prompt tokens: the root's own if it is a roll-up or a message and has a token count, else the sum over
    all operations that are not roll-ups (usage_repeats)."""
    output_tokens: int
    """Completion tokens, by the same rule."""
    total_tokens: int
    """All tokens, by the same rule."""
    cache_read_tokens: int = 0
    """Input tokens that were read from a cache, by the same rule."""
    cache_write_tokens: int = 0
    """Input tokens that were written to a cache, by the same rule."""
    reasoning_tokens: int = 0
    """Output tokens spent on reasoning, by the same rule."""
    input_audio_tokens: int = 0
    """Input tokens that are audio, by the same rule."""
    input_image_tokens: int = 0
    """Input tokens that are images, by the same rule."""
    output_audio_tokens: int = 0
    """Output tokens that are audio, by the same rule."""
    output_image_tokens: int = 0
    """Output tokens that are images, by the same rule."""
    cost: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Currency -> decimal text, by the same rule for prices."""
    cost_estimated: bool = False
    """Whether a price in cost came from a price table."""
    slowest: Sequence[SlowOperation] = ()
    """The five slowest leaves, slowest first; ties are ordered by source_id."""
    slowest_path: Sequence[SlowOperation] = ()
    """From the root down, at each step the slowest child; ties are ordered by source_id; at most 32 KiB of it,
    from the root on. Empty without a root."""


BY_NAME: dict[str, type[msgspec.Struct]] = {
    "ControlRecord": ControlRecord,
    "DeadLetter": DeadLetter,
    "DedupeBucket": DedupeBucket,
    "MetricGroup": MetricGroup,
    "MetricMinute": MetricMinute,
    "MetricRow": MetricRow,
    "MetricTotal": MetricTotal,
    "PartitionPosition": PartitionPosition,
    "RunLink": RunLink,
    "TraceContext": TraceContext,
    "TokenClasses": TokenClasses,
    "ContentChange": ContentChange,
    "ContentRef": ContentRef,
    "Origin": Origin,
    "WorkflowRun": WorkflowRun,
    "NodeExecution": NodeExecution,
    "Message": Message,
    "Moderation": Moderation,
    "SuggestedQuestion": SuggestedQuestion,
    "DatasetRetrieval": DatasetRetrieval,
    "Tool": Tool,
    "PromptGeneration": PromptGeneration,
    "Span": Span,
    "Feedback": Feedback,
    "Evaluation": Evaluation,
    "RehydrationFailed": RehydrationFailed,
    "TraceEvent": TraceEvent,
    "TraceOperations": TraceOperations,
    "TraceStarts": TraceStarts,
    "TraceState": TraceState,
    "SlowOperation": SlowOperation,
    "TraceSummary": TraceSummary,
}
"""Class by record name."""
