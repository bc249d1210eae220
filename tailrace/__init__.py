"""tailrace: publish the trace events of LLM applications to Kafka.

Applications publish each event once; the pipeline forwards it to every observability backend.
Applications import from this module only.
"""

from tailrace.content import JsonText
from tailrace.delivery_reports import Counts, DeliveryReport, FlushReport
from tailrace.errors import (
    ConfigError,
    DecodeError,
    EventTooLarge,
    InvalidEvent,
    PublisherClosed,
    QueueFull,
    TailraceError,
)
from tailrace.publisher import Publisher
from tailrace.records import (
    DatasetRetrieval,
    Evaluation,
    EvaluationSource,
    EvaluationTarget,
    Feedback,
    Kind,
    Message,
    Moderation,
    NodeExecution,
    Origin,
    PromptGeneration,
    RehydrationFailed,
    Span,
    SpanKind,
    SuggestedQuestion,
    TokenClasses,
    Tool,
    TraceEvent,
    WorkflowRun,
)

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Counts",
    "DatasetRetrieval",
    "DecodeError",
    "DeliveryReport",
    "Evaluation",
    "EvaluationSource",
    "EvaluationTarget",
    "EventTooLarge",
    "Feedback",
    "FlushReport",
    "InvalidEvent",
    "JsonText",
    "Kind",
    "Message",
    "Moderation",
    "NodeExecution",
    "Origin",
    "PromptGeneration",
    "Publisher",
    "PublisherClosed",
    "QueueFull",
    "RehydrationFailed",
    "Span",
    "SpanKind",
    "SuggestedQuestion",
    "TailraceError",
    "TokenClasses",
    "Tool",
    "TraceEvent",
    "WorkflowRun",
    "__version__",
]
