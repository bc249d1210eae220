"""One sink, running: its consumer group, its partitions, its send loop. Plumbing; the rules are in the
modules it calls.

Two threads. The consumer's reads, decodes, maps, commits and answers rebalances; the send loop's sends. In
flight, per partition: one batch under way, one complete batch waiting, and what one `consume` call (`FETCH`
records) brings on top of it; then the partition is paused. Memory is bounded by that and by librdkafka's own
queue (`PREFETCH_KB` a process).

The order that makes it at-least-once, and never less:

1. a record is read and gets a ticket; 2. it is delivered, filtered, or durably in the dead letters, which
settles the ticket; 3. the offset after the settled prefix is committed, with the ledger of exactly that
prefix as metadata.

What is under way when a partition is lost or the process dies is sent again by the next owner, with the same
ids: at most two batches a partition, the one being sent and the one whose commit is being made."""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.config.instances import Instance
from connectors.consumer.assignment import Assignment
from connectors.consumer.dead_letter_producer import DeadLetterProducer
from connectors.consumer.dead_letters import DeadLetterRequest, dead_letter, letter_key
from connectors.consumer.dispatch import take
from connectors.consumer.partition import SinkPartition
from connectors.consumer.reader import Reader
from connectors.consumer.schema_waits import SchemaWaits
from connectors.consumer.startup import report_health, wait_for_topics
from connectors.consumer.status import SinkCounts, State, Status
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.gate import Activity, Sleep
from connectors.delivery.observer import Observer
from connectors.delivery.rate_limits import RateLimiter
from connectors.delivery.send_loop import SendLoop
from connectors.sdk import redact
from connectors.sdk.contract import Sink
from connectors.sdk.outcomes import Rejected
from tailrace import kafka
from tailrace.errors import ConfigError, KafkaUnavailable
from tailrace.settings import Settings
from tailrace.topics import TopicNames

log: Final = logging.getLogger("tailrace.connect")

FETCH: Final = 500
"""Records of one consume call."""
PREFETCH_KB: Final = 16_384
"""Kilobytes that librdkafka may hold ahead."""
PATIENCE: Final = 0.02
"""Seconds that a full partition may hold up the others before it is paused: pausing discards what was fetched
ahead."""
ALONE: Final = 10.0
"""Seconds after which a member without partitions takes it that the group has none for it."""
RELOAD: Final = 1.0
"""Seconds between two looks at the settings of a sink that is paused: someone may have mended them."""


def _files(instance: Instance) -> tuple[str | None, ...]:
    return instance.ca_file, instance.cert_file, instance.key_file


class Runner:
    """Runs one instance. `run` blocks in the thread that calls it; `stop` and `status` may be called from any
    thread."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        *,
        until_caught_up: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """until_caught_up: `run` returns once everything that was in the topic when its partitions came is
        settled. clock: monotonic seconds; now: Unix seconds."""
        self.name = instance.name
        self.observer = Observer()
        self.joined = False
        """Whether the group has given it its partitions, if there are any for it."""
        self._came_round: float | None = None
        self._settings, self._instance, self._until_caught_up = settings, instance, until_caught_up
        self._clock, self._now, self._sleep, self._random = clock, now, sleep, random
        names = TopicNames.of(settings.topics)
        self._topic, self._dead_letters = names.enriched, names.dead_letters
        self._reader = Reader(instance.fields)
        self._secrets = instance.secrets
        self._schema_waits = SchemaWaits(settings.connect.unknown_schema_seconds)
        self._next_reload, self._reload_problem = 0.0, ""
        self._state: State = "waiting"
        self._error = ""
        self._counts = SinkCounts()
        self._activity = Activity()
        self._rate_limiter: RateLimiter | None = None
        self._retired: list[AiohttpTransport] = []
        self._former: list[Sink] = []
        self._partitions: dict[int, SinkPartition] = {}
        self._lag = -1
        self._answered = False
        self._stop = threading.Event()
        self._wake = threading.Event()

    def stop(self) -> None:
        """Asks it to drain and end."""
        self._stop.set()
        self._wake.set()

    def status(self) -> Status:
        partitions, activity = tuple(self._partitions.values()), self._activity
        return Status(
            sink=self.name,
            state=self._state,
            partitions=len(partitions),
            lag=self._lag,
            in_flight=sum(len(partition.offsets) + partition.held for partition in partitions),
            counts=self._counts.copy(),
            requests=activity.requests,
            retrying=activity.retrying,
            paused=activity.paused,
            error=self._error,
            limited=self._rate_limiter.waiting if self._rate_limiter else 0,
        )

    def oldest(self) -> int | None:
        """Append time of the first record that was read and is not settled, milliseconds UTC; None: there is
        none."""
        found = [
            at
            for partition in tuple(self._partitions.values())
            if (at := partition.offsets.oldest) is not None
        ]
        return min(found, default=None)

    def silent(self) -> float:
        """Seconds since its loop came round; 0 while it is not running."""
        came = self._came_round
        return 0.0 if came is None or self._state != "running" else max(0.0, self._clock() - came)

    def run(self) -> None:
        """Works until `stop`, then drains and commits within connect.drain_seconds and leaves the group.

        Raises `OffsetLost`, `KafkaUnavailable` (credentials), `ConfigError` (the sink's ca_file),
        `SinkStopped`, and for bugs anything; then nothing is committed that was not by then."""
        try:
            if wait_for_topics(
                self.name, self._settings.kafka, (self._topic, self._dead_letters), self._stop
            ):
                self._work()
            self._state = "stopped"
        except BaseException as e:
            self._state, self._error = "failed", redact.masked(str(e) or type(e).__name__, self._secrets)
            raise

    def _work(self) -> None:
        instance = self._instance
        self._loop = SendLoop(self.name, self._wake.set)
        try:
            self._http = self._loop.call(self._transport(instance))
            self._sender = BatchSender(
                self.name,
                self.observer.timed(instance.sink),
                self._http,
                sleep=self._sleep,
                random=self._random,
                clock=self._clock,
                max_attempts=self._settings.connect.max_attempts,
                limits=instance.dead_letters,
                rates=instance.rates,
                failures=instance.circuit_failures,
                secrets=instance.secrets,
            )
            self._activity, self._rate_limiter = self._sender.activity, self._sender.rate_limiter
            report_health(
                self.name,
                lambda: self._loop.submit(instance.sink.check(self._http)),
                secrets=instance.secrets,
            )
            self._dead_letter_producer = DeadLetterProducer(self._settings, self.name, self._clock)
            try:
                self._consume()
            finally:
                self._loop.call(self._close(), 5.0)
        finally:
            self._loop.stop()

    async def _transport(self, instance: Instance) -> AiohttpTransport:
        return AiohttpTransport(instance.ca_file, instance.cert_file, instance.key_file)

    async def _close(self) -> None:
        for sink in (self._instance.sink, *self._former):
            close = getattr(sink, "close", None)
            if close is not None:
                await close()
        for http in (self._http, *self._retired):
            await http.close()

    # -- settings that are mended while it is paused
    def _reload(self, now: float) -> None:
        """Looks whether the settings of a paused sink have changed, and goes on with a sink made of the new
        ones."""
        if not self._activity.paused or self._instance.reload is None or now < self._next_reload:
            return
        self._next_reload = now + RELOAD
        try:
            changed = self._instance.reload(self._instance)
            if changed is not None:
                self._reconfigure(changed)
            problem = ""
        except ConfigError as e:
            problem = redact.masked(str(e), self._secrets)
        if problem and problem != self._reload_problem:
            log.error(
                "%s: its settings have changed and cannot be used: %s; it stays with the old ones",
                self.name,
                problem,
            )
        self._reload_problem = problem

    def _reconfigure(self, instance: Instance) -> None:
        """From now on maps and sends with another sink object. Limits of batches stay until a partition is
        assigned anew.

        Raises `ConfigError` (certificates)."""
        if any((*_files(instance), *_files(self._instance))):  # what is in them may have changed too
            fresh = self._loop.call(self._transport(instance))
            self._retired.append(self._http)  # a request may still begin on it: closed at the end
            self._http = fresh
        self._former.append(self._instance.sink)
        self._instance = instance
        self._reader = Reader(instance.fields)
        self._secrets = tuple(
            dict.fromkeys((*instance.secrets, *self._secrets))
        )  # an answer may still have old ones
        for partition in self._partitions.values():
            partition.reconfigure(instance.sink, self._secrets, instance.admit, self._reader)
        self._loop.call(
            self._sender.reconfigure(
                self.observer.timed(instance.sink),
                self._http,
                limits=instance.dead_letters,
                rates=instance.rates,
                failures=instance.circuit_failures,
                secrets=self._secrets,
            )
        )
        log.warning("%s: its settings have changed; it goes on with the new ones", self.name)

    # -- the loop
    def _consume(self) -> None:
        connect = self._settings.connect
        static = {"group_instance_id": connect.instance_id} if connect.instance_id else {}
        properties = kafka.client(
            self._settings.kafka,
            group_id=connect.group_prefix + self.name,
            client_id=f"tailrace-{self.name}",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=self._until_caught_up,
            isolation_level="read_committed",
            auto_offset_reset="error",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=connect.session_timeout_ms,
            heartbeat_interval_ms=max(
                100, connect.session_timeout_ms // 5
            ),  # the client's 3 s would lose a shorter session
            fetch_queue_backoff_ms=5,
            queued_max_messages_kbytes=PREFETCH_KB,
            **static,
        )
        client_log = logging.getLogger("tailrace.connect.client")
        self._consumer: Any = Consumer({**properties, "on_commit": self._on_commit, "logger": client_log})
        self._assignment = Assignment(self.name, self._consumer, self._topic)
        self._began = self._next_commit = self._clock()
        finished = False
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            self._state = "running"
            while not self._stop.is_set() and not (self._until_caught_up and self._caught_up()):
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

    def _poll_once(self, *, drain: bool = False) -> None:
        """One round: what was sent, what is to send, what is full, what is to commit, what is to read."""
        self._dead_letter_producer.poll()
        now = self._came_round = self._clock()
        self.joined = self.joined or now - self._began > ALONE
        self._reload(now)
        for partition in self._partitions.values():
            self._serve(partition, now, drain=drain)
        self._throttle(drain=drain)
        if self._answered or now >= self._next_commit:
            self._answered = False
            self._next_commit = now + self._settings.connect.commit_interval_ms / 1000
            self._commit(list(self._partitions.values()))
            self._measure_lag()
        busy = any(partition.unsettled or partition.waiting for partition in self._partitions.values())
        fetched = self._consumer.consume(FETCH, 0.005 if busy else 0.05)
        for message in take(fetched, self._partitions, self._clock()):
            self._handle_error(message)

    def _serve(self, partition: SinkPartition, now: float, *, drain: bool = False) -> None:
        self._answered = (
            self._answered or partition.answered
        )  # commit at once: what is not committed comes again after a kill
        partition.collect()
        if not drain:
            partition.look_again(now)
        batch = partition.next_batch(now, drain=drain)
        if batch is not None:
            partition.sent(self._loop.submit(self.observer.delivering(batch, self._sender.deliver)))
        partition.advance()

    def _throttle(self, *, drain: bool = False) -> None:
        """Pauses full partitions and resumes the others. A fast sink gets a moment first."""
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
        """What came in a record's place. Raises what ends the sink."""
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
            hint = "; another process has the same connect.instance_id" if fenced else ""
            raise KafkaUnavailable(f"{self.name}: {error.str()}{hint}")
        else:
            log.warning("%s: %s", self.name, error.str())

    def _measure_lag(self) -> None:
        self._lag = self._assignment.lag(
            {p: partition.offsets.next_offset for p, partition in self._partitions.items()}
        )

    def _caught_up(self) -> bool:
        """Whether what was in the topic when its partitions were assigned is settled."""
        for number, end in self._assignment.ends.items():
            partition = self._partitions.get(number)
            if partition is not None and not partition.caught_up:
                partition.caught_up = partition.offsets.next_offset >= end
        if not self._partitions:
            return self._clock() - self._began > ALONE
        return all(partition.caught_up and partition.idle for partition in self._partitions.values())

    def _may_dead_letter(self, rejected: Rejected) -> bool:
        """Whether a record that cannot be mapped may be dead-lettered; if not, the sink pauses."""
        limit = self._sender.dead_letter_limiter.reject()
        if limit and not self._activity.paused:
            self._loop.call(self._sender.dead_letter_limit_reached(limit, rejected))
        return not limit

    def _dead_letter(self, request: DeadLetterRequest) -> None:
        """Dead-letters one record; it is settled when the broker has acknowledged that."""
        where, rejected = request.source, request.rejected
        log.warning(
            "%s: %s[%d]@%d (event %s) goes to the dead letters (%s): %s %s",
            self.name,
            where.topic,
            where.partition,
            where.offset,
            where.event_id,
            request.stage,
            rejected.reason,
            rejected.detail,
        )
        record = dead_letter(
            request.stage,
            self.name,
            where,
            rejected,
            int(self._now() * 1000),
            attempts=request.attempts,
            value=request.value,
            keep=self._settings.topics.max_event_bytes,
        )
        self._dead_letter_producer.write(letter_key(where), record, request.settle)

    # -- committing
    def _commit(
        self, partitions: list[SinkPartition], *, wait: bool = False, inside_consume: bool = False
    ) -> None:
        """Commits what is settled and not committed yet.

        inside_consume: in a rebalance callback. There the consumer's position may be ahead of what it has
        handed out, so only settled records count."""
        positions = (
            {}
            if inside_consume
            else self._assignment.positions([partition.number for partition in partitions if partition.idle])
        )
        offsets = []
        for partition in partitions:
            due = partition.to_commit(positions.get(partition.number, -1))
            if due is not None:
                partition.committed = due
                offsets.append(TopicPartition(self._topic, partition.number, due[0], due[1].encode()))
        if not offsets:
            return
        try:
            done = self._consumer.commit(offsets=offsets, asynchronous=not wait)
            self._on_commit(None, done or [])
        except KafkaException as e:
            self._on_commit(e.args[0], offsets)

    def _on_commit(self, error: KafkaError | None, offsets: list[Any]) -> None:
        """One that failed is made again, with what is settled by then."""
        failed = [p for p in offsets if error is not None or p.error is not None]
        if not failed:
            return
        log.warning(
            "%s: a commit of %d partitions failed: %s",
            self.name,
            len(failed),
            (error or failed[0].error).str(),
        )
        for p in failed:
            if p.partition in self._partitions:
                self._partitions[p.partition].committed = None

    # -- giving up partitions
    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
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
                self._counts,
                self._dead_letter,
                self._may_dead_letter,
                self._schema_waits,
                self._secrets,
                self._instance.admit,
            )
        self.joined = True
        self._next_commit = (
            self._clock()
        )  # at once: from a sink's first start on, what is deleted unread is an alarm
        log.info("%s: has partitions %s", self.name, sorted(self._partitions))

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        """Lets what is under way finish within connect.drain_seconds, commits, gives up. What waits is the
        next owner's."""
        revoked = [self._partitions[p.partition] for p in partitions if p.partition in self._partitions]
        deadline = self._clock() + self._settings.connect.drain_seconds
        while (
            any(partition.unsettled for partition in revoked)
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
        """They are someone else's already: what is under way is cancelled, nothing is committed."""
        for p in partitions:
            if p.partition in self._partitions:
                self._partitions.pop(p.partition).cancel()
        self._consumer.incremental_unassign(partitions)
        log.warning("%s: lost partitions %s", self.name, sorted(p.partition for p in partitions))

    def _drain(self) -> None:
        """Sends everything that was read, within connect.drain_seconds, and commits; still a member of the
        group."""
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
        """Whether waiting would settle nothing: the sink is paused and no probe is out, or only what cannot
        be taken is left."""
        if self._activity.sending or any(partition.dead_lettering for partition in partitions):
            return False
        return bool(self._activity.paused) or all(
            partition.idle or partition.blocked for partition in partitions
        )

    def _release(self, partitions: list[SinkPartition], *, inside_consume: bool = False) -> None:
        for partition in partitions:
            partition.cancel()
            partition.advance()
        left = sum(len(partition.offsets) for partition in partitions)
        if left:
            log.info(
                "%s: %d records that were read are not settled; whoever reads next sends them",
                self.name,
                left,
            )
        self._commit(partitions, wait=True, inside_consume=inside_consume)
