"""Runs one sink: its consumer group, its partitions, its send loop. The rules are in the modules it calls.

There are two threads. The consumer's thread reads, decodes, maps, commits and handles rebalances. The send
loop's thread sends. Each partition has at most one batch being sent, one full batch waiting, and the
records of one more `consume` call (`FETCH`); then it is paused. That and librdkafka's queue
(`clients.PREFETCH_KB`) bound the memory.

Delivery is at least once because of the order of the steps:

1. A record is read.
2. It is delivered, filtered, or its dead letter is durable. This acknowledges it.
3. The offset after the acknowledged prefix is committed, with the ledger of exactly that prefix as metadata.

When a partition is lost or the process dies, the next owner sends again what was in flight, with the same
ids: at most two batches of a partition, the one being sent and the one whose commit had not completed.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from confluent_kafka import KafkaError, Message, TopicPartition

from connectors.config.instances import Instance
from connectors.consumer.assignment import Assignment
from connectors.consumer.dead_letter_producer import DeadLetterProducer
from connectors.consumer.dispatch import take
from connectors.consumer.failure_reports import FailureReports
from connectors.consumer.offset_commits import OffsetCommits
from connectors.consumer.partition import SinkPartition
from connectors.consumer.reader import Reader
from connectors.consumer.shared_state import SharedState
from connectors.consumer.startup import open_consumer, report_health, wait_for_topics
from connectors.consumer.status import State, Status
from connectors.content.sink_content import SinkContent, report_seconds
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.gate import Sleep
from connectors.delivery.rate_limits import RateLimiter
from connectors.delivery.send_loop import SendLoop
from connectors.sdk import redact
from connectors.sdk.outcomes import Rejected
from tailrace import kafka
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Settings
from tailrace.topics import TopicNames

log: Final = logging.getLogger("tailrace.connect")

FETCH: Final = 500
"""Most records of one `consume` call."""
PATIENCE: Final = 0.02
"""Seconds to wait for a full partition before it is paused. Pausing discards records that were prefetched."""
CLOSE_SECONDS: Final = 5.0
"""Seconds that closing a sink may take."""
ALONE: Final = 10.0
"""Seconds after which a member without partitions assumes that the group has none for it."""


Ended = Literal["stopped", "replaced"]
"""Why a runner ended. stopped: it was stopped, or it caught up. replaced: another runner takes its place."""


def _never() -> bool:
    return False


async def _transport(instance: Instance) -> AiohttpTransport:
    """Creates the transport on the event loop that runs this."""
    return AiohttpTransport(instance.ca_file, instance.cert_file, instance.key_file)


class Runner:
    """Runs one instance until it is stopped or replaced.

    `run` blocks in the thread that calls it. `status`, `oldest` and `silent` may be called from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        *,
        until_caught_up: bool = False,
        report_failures: bool = True,
        shared: SharedState | None = None,
        replaced: Callable[[], bool] = _never,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """
        Args:
            settings: The process's settings.
            instance: The configured sink.
            until_caught_up: Whether `run` returns once everything that was in the topic when its partitions
                were assigned is acknowledged.
            report_failures: Whether content that does not come back is published as `rehydration_failed`. A
                replay sets it to false.
            shared: State that it takes over from the runner before it, which has ended.
            replaced: Called in each round of the loop. Once it returns true, the runner drains and ends.
            clock: Monotonic seconds.
            now: Unix seconds.
            sleep: Waits between attempts, in the send loop.
            random: Returns a number in [0, 1), for jitter.
        """
        self.name = instance.name
        self.joined = False
        """Whether the group has assigned partitions to it, or has had `ALONE` seconds to do so."""
        self._last_round: float | None = None
        self._settings, self._instance, self._until_caught_up = settings, instance, until_caught_up
        self._clock, self._now, self._sleep, self._random = clock, now, sleep, random
        names = TopicNames.of(settings.topics)
        self._topic, self._dead_letters = names.enriched, names.dead_letters
        self._reader = Reader(instance.fields)
        self._shared = shared or SharedState(settings, instance)
        self._activity = self._shared.activity
        self._stop, self._wake = self._shared.stop, self._shared.wake
        self._replaced = replaced
        self._reports = FailureReports(settings, self.name, clock, now)
        self._content = SinkContent(
            self.name,
            self._shared.fetcher,
            instance.fetched,
            self._shared.counts.content,
            self._reports.write if report_failures else None,
            report_for=report_seconds(settings.streams.dedupe_minutes),
            clock=clock,
            now=now,
        )
        self._state: State = "waiting"
        self._error = ""
        self._rate_limiter: RateLimiter | None = None
        self._partitions: dict[int, SinkPartition] = {}
        self._lag = -1
        self._answered = False

    @property
    def paused(self) -> bool:
        """Whether the sink sends only probes now."""
        return bool(self._activity.paused)

    def status(self) -> Status:
        """The sink's state and counts now."""
        partitions, activity = tuple(self._partitions.values()), self._activity
        return Status(
            sink=self.name,
            state=self._state,
            partitions=len(partitions),
            lag=self._lag,
            in_flight=sum(len(partition.offsets) + partition.held for partition in partitions),
            counts=self._shared.counts.copy(),
            requests=activity.requests,
            retrying=activity.retrying,
            paused=activity.paused,
            error=self._error,
            limited=self._rate_limiter.waiting if self._rate_limiter else 0,
        )

    def oldest(self) -> int | None:
        """Append time of the first record that is not acknowledged, milliseconds UTC; None without one."""
        times = [
            at
            for partition in tuple(self._partitions.values())
            if (at := partition.offsets.oldest) is not None
        ]
        return min(times, default=None)

    def silent(self) -> float:
        """Seconds since the last round of the loop began; 0 while it is not running."""
        last = self._last_round
        return 0.0 if last is None or self._state != "running" else max(0.0, self._clock() - last)

    def run(self) -> Ended:
        """Works until it is to stop, then drains, commits and leaves the group.

        Draining takes at most connect.drain_seconds. After an exception nothing more is committed.

        Raises:
            OffsetLost: The committed offset is outside the topic.
            KafkaUnavailable: The broker refuses the credentials, or the member was fenced.
            ConfigError: A TLS file of the sink cannot be used.
            SinkStopped: The sink cannot continue.
        """
        ended: Ended = "stopped"
        try:
            if wait_for_topics(
                self.name, self._settings.kafka, (self._topic, self._dead_letters), self._stop
            ):
                ended = self._work()
            if ended == "stopped":
                self._state = "stopped"
        except BaseException as e:
            secrets = self._instance.secrets
            self._state, self._error = "failed", redact.masked(str(e) or type(e).__name__, secrets)
            raise
        return ended

    def _work(self) -> Ended:
        instance, shared = self._instance, self._shared
        self._loop = SendLoop(self.name, self._wake.set)
        try:
            http = self._loop.call(_transport(instance))
            self._sender = BatchSender(
                self.name,
                shared.observer.timed(instance.sink),
                http,
                sleep=self._sleep,
                random=self._random,
                clock=self._clock,
                max_attempts=self._settings.connect.max_attempts,
                activity=self._activity,
                dead_letter_limiter=shared.dead_letter_limiter,
                rates=instance.rates,
                failures=instance.circuit_failures,
                secrets=instance.secrets,
            )
            self._rate_limiter = self._sender.rate_limiter
            report_health(
                self.name,
                lambda: self._loop.submit(instance.sink.check(http)),
                self._stop,
                self._wake,
                secrets=instance.secrets,
            )
            self._dead_letter_producer = DeadLetterProducer(self._settings, self.name, self._clock, self._now)
            ended: Ended = "stopped"
            try:
                ended = self._consume()
            finally:
                self._close(http, ended)
        finally:
            self._loop.stop()
        return ended

    def _close(self, http: AiohttpTransport, ended: Ended) -> None:
        """Closes the sink and its connections. An exception is only logged if another runner follows."""

        async def close() -> None:
            try:
                close_sink = getattr(self._instance.sink, "close", None)
                if close_sink is not None:
                    await close_sink()
            finally:
                await http.close()

        try:
            self._loop.call(close(), CLOSE_SECONDS)
        except Exception as e:
            if ended == "stopped":
                raise
            log.warning("%s: the replaced sink could not be closed: %s", self.name, redact.where(e))

    # -- the loop
    def _consume(self) -> Ended:
        self._consumer = open_consumer(
            self.name,
            self._settings,
            partition_eof=self._until_caught_up,
            on_commit=self._on_commit,
        )
        self._assignment = Assignment(self.name, self._consumer, self._topic)
        self._commits = OffsetCommits(
            self.name, self._topic, self._consumer, self._assignment, self._partitions
        )
        self._began = self._next_commit = self._clock()
        ended: Ended = "stopped"
        finished = False
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            self._state = "running"
            while not self._stop.is_set() and not (self._until_caught_up and self._caught_up()):
                if self._replaced():
                    ended = "replaced"
                    break
                self._poll_once()
            self._state = "stopping"
            self._drain()
            finished = True
        finally:
            for partition in self._partitions.values():
                partition.cancel()
            self._partitions.clear()
            self._consumer.close()
            self._dead_letter_producer.close(1.0 if finished else 0.0)
            self._reports.close(1.0 if finished else 0.0)
        return ended

    def _on_commit(self, error: KafkaError | None, offsets: list[Any]) -> None:
        self._commits.on_commit(error, offsets)

    def _poll_once(self, *, drain: bool = False) -> None:
        """One round: collects results, sends, pauses and resumes partitions, commits, reads."""
        self._dead_letter_producer.poll()
        self._reports.poll()
        now = self._last_round = self._clock()
        self.joined = self.joined or now - self._began > ALONE
        for partition in self._partitions.values():
            self._serve(partition, now, drain=drain)
        self._throttle(drain=drain)
        if self._answered or now >= self._next_commit:
            self._answered = False
            self._next_commit = now + self._settings.connect.commit_interval_ms / 1000
            self._commits.commit(list(self._partitions.values()))
            self._measure_lag()
        busy = any(partition.offsets or partition.fetching for partition in self._partitions.values())
        fetched = self._consumer.consume(FETCH, 0.005 if busy else 0.05)
        for message in take(fetched, self._partitions, self._clock()):
            self._handle_error(message)

    def _serve(self, partition: SinkPartition, now: float, *, drain: bool = False) -> None:
        # Commit soon after an answer: after a kill, what is not committed is sent again.
        self._answered = self._answered or partition.answered
        partition.collect()
        if not drain:
            partition.look_again(now)
        batch = partition.next_batch(now, drain=drain)
        if batch is not None:
            partition.sent(self._loop.submit(self._shared.observer.delivering(batch, self._sender.deliver)))
        partition.advance()

    def _throttle(self, *, drain: bool = False) -> None:
        """Pauses full partitions and resumes the others. A fast sink gets `PATIENCE` seconds first."""
        partitions = self._partitions.values()
        if not drain and any(partition.full and not partition.paused for partition in partitions):
            self._wake.clear()
            if not any(partition.answered for partition in partitions):
                self._wake.wait(PATIENCE)
            for partition in partitions:
                self._serve(partition, self._clock())
        for partition in partitions:
            if (drain or partition.full) != partition.paused:
                partition.paused = not partition.paused
                change = self._consumer.pause if partition.paused else self._consumer.resume
                change([TopicPartition(self._topic, partition.number)])

    def _handle_error(self, message: Message) -> None:
        """Handles a message that is an error. Raises `OffsetLost` and `KafkaUnavailable`."""
        error = message.error()
        partition = self._partitions.get(message.partition())
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            if partition is not None:
                partition.caught_up = True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise self._assignment.offset_lost(message.partition())
        elif kafka.fatal(error):
            fenced = error.code() in (KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID)
            hint = "; another process has the same connect.instance_id: give each its own" if fenced else ""
            raise KafkaUnavailable(f"{self.name}: {error.str()}{hint}")
        else:
            log.warning("%s: %s", self.name, error.str())

    def _measure_lag(self) -> None:
        self._lag = self._assignment.lag(
            {p: partition.offsets.next_offset for p, partition in self._partitions.items()}
        )

    def _caught_up(self) -> bool:
        """Whether everything that was in the topic when its partitions were assigned is acknowledged."""
        for number, end in self._assignment.ends.items():
            partition = self._partitions.get(number)
            if partition is not None and not partition.caught_up:
                partition.caught_up = partition.offsets.next_offset >= end
        if not self._partitions:
            return self._clock() - self._began > ALONE
        return all(partition.caught_up and partition.idle for partition in self._partitions.values())

    def _may_dead_letter(self, rejected: Rejected) -> bool:
        """Whether a record that cannot be mapped may be dead-lettered now. If not, the sink pauses."""
        limit = self._sender.dead_letter_limiter.reject()
        if limit and not self.paused:
            self._loop.call(self._sender.dead_letter_limit_reached(limit, rejected))
        return not limit

    # -- rebalances
    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        if self._stop.is_set() or self._state == "stopping":
            self._assignment.decline(partitions)  # asking for their offsets could outlast the stop
            return
        for start in self._assignment.take(partitions, ends=self._until_caught_up):
            self._partitions[start.partition] = SinkPartition(
                self.name,
                self._topic,
                start.partition,
                self._instance.sink,
                self._reader,
                self._instance.limits,
                start.ledger,
                start.offset,
                self._shared.counts,
                self._dead_letter_producer.dead_letter,
                self._may_dead_letter,
                self._shared.schema_waits,
                self._instance.secrets,
                self._instance.admit,
                self._content,
                self._instance.cut_to,
            )
        self.joined = True
        # Commit at once: from a sink's first start on, it is detected when records are deleted unread.
        self._next_commit = self._clock()
        log.info("%s: has partitions %s", self.name, sorted(self._partitions))

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        """Finishes what is in flight within connect.drain_seconds, commits, and releases the partitions.

        Records that wait to be sent are left to the next owner.
        """
        revoked = [self._partitions[p.partition] for p in partitions if p.partition in self._partitions]
        deadline = self._clock() + self._settings.connect.drain_seconds
        while (
            any(partition.in_flight for partition in revoked)
            and self._clock() < deadline
            and not self._stuck(revoked)
        ):
            self._dead_letter_producer.poll()
            for partition in revoked:
                partition.collect()
                partition.advance()
            self._wake.wait(0.01)
            self._wake.clear()
        self._release(revoked, inside_consume=True)
        for p in partitions:
            self._partitions.pop(p.partition, None)
        self._consumer.incremental_unassign(partitions)
        log.info("%s: gave up partitions %s", self.name, sorted(p.partition for p in partitions))

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        """Cancels what is in flight and commits nothing: the partitions already have another owner."""
        for p in partitions:
            if p.partition in self._partitions:
                self._partitions.pop(p.partition).cancel()
        self._consumer.incremental_unassign(partitions)
        log.warning("%s: lost partitions %s", self.name, sorted(p.partition for p in partitions))

    def _drain(self) -> None:
        """Sends everything that was read, within connect.drain_seconds, and commits. Stays in the group."""
        deadline = self._clock() + self._settings.connect.drain_seconds
        partitions = list(self._partitions.values())
        while (
            not all(partition.idle for partition in partitions)
            and self._clock() < deadline
            and not self._stuck(partitions)
        ):
            self._poll_once(drain=True)
            partitions = list(self._partitions.values())
        self._release(partitions)
        self._measure_lag()

    def _stuck(self, partitions: list[SinkPartition]) -> bool:
        """Whether waiting would acknowledge nothing more.

        That is so if the sink is paused and no request is in flight, or if only held records are left.
        """
        if self._activity.sending:
            return False
        if any(partition.answered or partition.dead_lettering for partition in partitions):
            return False
        return self.paused or not any(partition.offsets for partition in partitions)

    def _release(self, partitions: list[SinkPartition], *, inside_consume: bool = False) -> None:
        for partition in partitions:
            partition.cancel()
            partition.advance()
        left = sum(len(partition.offsets) for partition in partitions)
        if left:
            log.info(
                "%s: %d records that were read are not acknowledged; the next owner sends them again",
                self.name,
                left,
            )
        self._commits.commit(partitions, wait=True, inside_consume=inside_consume)
