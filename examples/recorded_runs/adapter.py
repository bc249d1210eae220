"""Turns recorded engine events into trace events, as an engine layer does.

An operation gives one event, when it ends. A pause emits nothing. Operations that are still open when
their run ends were cut off; they end with it as `stopped`. Events come in the order in which operations
end, so children before their container.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from examples.recorded_runs.engine_lines import (
    ContainerStarted,
    EdgeData,
    EdgeTaken,
    GraphEnd,
    GraphStart,
    Line,
    NodeEnded,
    NodeRetried,
    NodeStarted,
    StartedData,
)
from examples.recorded_runs.mapping import Execution, RunContext, ended_node, ended_run, stopped_node
from examples.recorded_runs.recording import RecordingError, latest, read
from examples.recorded_runs.salted import renaming
from tailrace.records import TraceEvent


def shift_to(now: int, lines: Iterable[bytes]) -> int:
    """The offset that moves the latest time in the recording to `now`, microseconds UTC."""
    return now - latest(lines)


def adapt(
    lines: Iterable[bytes], *, tenant_id: str = "demo", shift: int = 0, salt: str | None = None
) -> Iterator[TraceEvent]:
    """Yields the recording's trace events, each as soon as its line is read.

    Args:
        tenant_id: the recording has none.
        shift: microseconds added to all times.
        salt: derives other ids for runs, node executions and conversations. Recorded content (prompts,
            URLs, the `sys.*` outputs) is not changed.

    Raises:
        RecordingError: names the line. The recording is garbled, contradicts itself, or stops before
            its runs do.
    """
    rename = renaming(salt)
    runs: dict[str, _Run] = {}
    number = 0
    for number, line in read(lines):
        if isinstance(line, GraphStart) and line.segment == 0:
            if line.run_id in runs:
                raise RecordingError(number, f"run {line.run_id} starts twice")
            if line.system is None:
                raise RecordingError(number, "the first graph_start of a run lacks its `system`")
            titles = {node.id: node.title for node in line.nodes}
            runs[line.run_id] = _Run(RunContext(line, line.system, titles, tenant_id, shift, rename))
            continue
        run = runs.get(line.run_id)
        if run is None:
            raise RecordingError(
                number,
                f"run {line.run_id} is not running; its graph_start is missing or its end came before",
            )
        yield from run.take(number, line)
        if run.ended:
            del runs[line.run_id]
    if cut := sum(not run.paused for run in runs.values()):
        raise RecordingError(number + 1, f"the recording ends before {cut} of its runs")


class _Run:
    """The state of one run between its lines."""

    def __init__(self, context: RunContext) -> None:
        self.paused = self.ended = False
        self._context = context
        self._open: dict[str, Execution] = {}  # in order of their starts: containers before their children
        self._executions = 0
        self._elapsed = Decimal(0)
        self._predecessors: dict[tuple[str, int, str], str] = {}
        self._currencies: dict[str | None, set[str]] = {}

    def take(self, number: int, line: Line) -> Iterator[TraceEvent]:
        match line:
            case GraphStart():
                self.paused = False
            case EdgeTaken(data=edge):
                self._predecessors[edge.container_id, _edge_round(edge), edge.target_node_id] = (
                    edge.source_node_id
                )
            case NodeStarted(data=started):
                if started.id not in self._open:
                    self._executions += 1
                    predecessor = self._predecessors.get(
                        (started.container_id, _node_round(started), started.node_id)
                    )
                    self._open[started.id] = Execution(
                        started, line.parent_execution_id, self._executions, predecessor
                    )
            case ContainerStarted(data=container):
                self._under_way(number, container.id).inputs = container.inputs
            case NodeRetried(data=attempt):
                self._under_way(number, attempt.id).retries.append(attempt)
            case NodeEnded(data=end):
                execution = self._under_way(number, end.id)
                del self._open[end.id]
                usage = end.node_run_result.llm_usage
                priced = self._spent(
                    end.id, execution.parent_execution_id, usage.currency if usage.total_tokens else None
                )
                yield ended_node(self._context, execution, end, priced)
            case GraphEnd():
                self._elapsed += line.elapsed
                self.paused = line.status == "paused"
                if not self.paused:
                    yield from self._end(line)

    def _under_way(self, number: int, execution_id: str) -> Execution:
        if execution_id not in self._open:
            raise RecordingError(
                number,
                f"node execution {execution_id} is not running; its start is missing or its end came before",
            )
        return self._open[execution_id]

    def _end(self, end: GraphEnd) -> Iterator[TraceEvent]:
        self.ended = True
        for execution in reversed(self._open.values()):
            yield stopped_node(self._context, execution, end)
        yield ended_run(self._context, end, self._elapsed, len(self._currencies.get(None, ())) == 1)

    def _spent(self, execution_id: str, parent_id: str | None, currency: str | None) -> bool:
        """Notes the currency of an execution's usage, for the execution and its containers.

        A container's usage is that of its children, with prices added up. True if that is one currency.
        """
        currencies = self._currencies.pop(execution_id, set()) or ({currency} if currency else set())
        self._currencies.setdefault(parent_id, set()).update(currencies)
        return len(currencies) == 1


def _edge_round(edge: EdgeData) -> int:
    """The round of the container in which an edge was taken; -1 at the root.

    The frame's id does not appear on nodes. So edges of one loop that runs in several items of an
    iteration at once share a key: same graph, same round.
    """
    _, _, number = edge.frame_id.rpartition(":")
    return int(number) if number.isdecimal() else -1


def _node_round(started: StartedData) -> int:
    metadata = started.node_run_result.metadata
    number = metadata.get(
        "loop_index" if metadata.get("loop_id") == started.container_id else "iteration_index", -1
    )
    return number if started.container_id and isinstance(number, int) else -1
