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
        self._pace: RateLimiter | None = None
        self._retired: list[AiohttpTransport] = []
        self._former: list[Sink] = []
        self._lanes: dict[int, SinkPartition] = {}
        self._lag = -1
        self._answered = False
        self._stop = threading.Event()
        self._wake = threading.Event()

    def stop(self) -> None:
        """Asks it to drain and end."""
        self._stop.set()
        self._wake.set()

    def status(self) -> Status:
        lanes, activity = tuple(self._lanes.values()), self._activity
        return Status(
            sink=self.name,
            state=self._state,
            partitions=len(lanes),
            lag=self._lag,
            in_flight=sum(len(lane.progress) + lane.held for lane in lanes),
            counts=self._counts.copy(),
            requests=activity.requests,
            retrying=activity.retrying,
            paused=activity.paused,
            error=self._error,
            limited=self._pace.waiting if self._pace else 0,
        )

    def oldest(self) -> int | None:
        """Append time of the first record that was read and is not settled, milliseconds UTC; None: there is
        none."""
        found = [at for lane in tuple(self._lanes.values()) if (at := lane.progress.oldest) is not None]
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
            self._courier = BatchSender(
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
            self._activity, self._pace = self._courier.activity, self._courier.pace
            report_health(
                self.name,
                lambda: self._loop.submit(instance.sink.check(self._http)),
                secrets=instance.secrets,
            )
            self._outbox = DeadLetterProducer(self._settings, self.name, self._clock)
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
                self._use(changed)
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

    def _use(self, instance: Instance) -> None:
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
        for lane in self._lanes.values():
            lane.use(instance.sink, self._secrets, instance.admit, self._reader)
        self._loop.call(
            self._courier.use(
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
                self._turn()
            self._state = "stopping"
            self._drain()
            finished = True
        finally:
            for lane in self._lanes.values():
                lane.cancel()
            self._lanes.clear()
            self._consumer.close()
            self._outbox.close(1.0 if finished else 0.0)

    def _turn(self, *, drain: bool = False) -> None:
        """One round: what was sent, what is to send, what is full, what is to commit, what is to read."""
        self._outbox.poll()
        now = self._came_round = self._clock()
        self.joined = self.joined or now - self._began > ALONE
        self._reload(now)
        for lane in self._lanes.values():
            self._serve(lane, now, drain=drain)
        self._throttle(drain=drain)
        if self._answered or now >= self._next_commit:
            self._answered = False
            self._next_commit = now + self._settings.connect.commit_interval_ms / 1000
            self._commit(list(self._lanes.values()))
            self._measure_lag()
        busy = any(lane.unsettled or lane.waiting for lane in self._lanes.values())
        fetched = self._consumer.consume(FETCH, 0.005 if busy else 0.05)
        for message in take(fetched, self._lanes, self._clock()):
            self._hear(message)

    def _serve(self, lane: SinkPartition, now: float, *, drain: bool = False) -> None:
        self._answered = (
            self._answered or lane.answered
        )  # commit at once: what is not committed comes again after a kill
        lane.collect()
        if not drain:
            lane.look_again(now)
        batch = lane.next_batch(now, drain=drain)
        if batch is not None:
            lane.sent(self._loop.submit(self.observer.delivering(batch, self._courier.deliver)))
        lane.advance()

    def _throttle(self, *, drain: bool = False) -> None:
        """Pauses full partitions and resumes the others. A fast sink gets a moment first."""
        lanes = self._lanes.values()
        if not drain and any(lane.full and not lane.paused for lane in lanes):
            self._wake.clear()
            if not any(lane.answered for lane in lanes):
                self._wake.wait(PATIENCE)
            for lane in lanes:
                self._serve(lane, self._clock())
        for lane in lanes:
            if (drain or lane.full) != lane.paused:
                lane.paused = not lane.paused
                change = self._consumer.pause if lane.paused else self._consumer.resume
                change([TopicPartition(self._topic, lane.partition)])

    def _hear(self, message: Message) -> None:
        """What came in a record's place. Raises what ends the sink."""
        error = message.error()
        lane = self._lanes.get(message.partition())
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            if lane is not None:
                lane.caught_up = True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise self._assignment.offset_lost(message.partition())
        elif kafka.fatal(error):
            fenced = error.code() in (KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID)
            hint = "; another process has the same connect.instance_id" if fenced else ""
            raise KafkaUnavailable(f"{self.name}: {error.str()}{hint}")
        else:
            log.warning("%s: %s", self.name, error.str())

    def _measure_lag(self) -> None:
        self._lag = self._assignment.lag({p: lane.progress.next_offset for p, lane in self._lanes.items()})

    def _caught_up(self) -> bool:
        """Whether what was in the topic when its partitions were assigned is settled."""
        for partition, end in self._assignment.ends.items():
            lane = self._lanes.get(partition)
            if lane is not None and not lane.caught_up:
                lane.caught_up = lane.progress.next_offset >= end
        if not self._lanes:
            return self._clock() - self._began > ALONE
        return all(lane.caught_up and lane.idle for lane in self._lanes.values())

    def _may_bury(self, rejected: Rejected) -> bool:
        """Whether a record that cannot be mapped may be dead-lettered; if not, the sink pauses."""
        limit = self._courier.allowance.reject()
        if limit and not self._activity.paused:
            self._loop.call(self._courier.over(limit, rejected))
        return not limit

    def _bury(self, letter: DeadLetterRequest) -> None:
        """Dead-letters one record; it is settled when the broker has acknowledged that."""
        where, rejected = letter.source, letter.rejected
        log.warning(
            "%s: %s[%d]@%d (event %s) goes to the dead letters (%s): %s %s",
            self.name,
            where.topic,
            where.partition,
            where.offset,
            where.event_id,
            letter.stage,
            rejected.reason,
            rejected.detail,
        )
        record = dead_letter(
            letter.stage,
            self.name,
            where,
            rejected,
            int(self._now() * 1000),
            attempts=letter.attempts,
            value=letter.value,
            keep=self._settings.topics.max_event_bytes,
        )
        self._outbox.write(letter_key(where), record, letter.settle)

    # -- committing
    def _commit(
        self, lanes: list[SinkPartition], *, wait: bool = False, inside_consume: bool = False
    ) -> None:
        """Commits what is settled and not committed yet.

        inside_consume: in a rebalance callback. There the consumer's position may be ahead of what it has
        handed out, so only settled records count."""
        positions = (
            {}
            if inside_consume
            else self._assignment.positions([lane.partition for lane in lanes if lane.idle])
        )
        offsets = []
        for lane in lanes:
            due = lane.to_commit(positions.get(lane.partition, -1))
            if due is not None:
                lane.committed = due
                offsets.append(TopicPartition(self._topic, lane.partition, due[0], due[1].encode()))
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
            if p.partition in self._lanes:
                self._lanes[p.partition].committed = None

    # -- giving up partitions
    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        for start in self._assignment.take(partitions, ends=self._until_caught_up):
            self._lanes[start.partition] = SinkPartition(
                self.name,
                self._topic,
                start.partition,
                self._instance.sink,
                self._reader,
                self._instance.limits,
                start.ledger,
                start.offset,
                self._counts,
                self._bury,
                self._may_bury,
                self._schema_waits,
                self._secrets,
                self._instance.admit,
            )
        self.joined = True
        self._next_commit = (
            self._clock()
        )  # at once: from a sink's first start on, what is deleted unread is an alarm
        log.info("%s: has partitions %s", self.name, sorted(self._lanes))

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        """Lets what is under way finish within connect.drain_seconds, commits, gives up. What waits is the
        next owner's."""
        lanes = [self._lanes[p.partition] for p in partitions if p.partition in self._lanes]
        deadline = self._clock() + self._settings.connect.drain_seconds
        while any(lane.unsettled for lane in lanes) and self._clock() < deadline and not self._stuck(lanes):
            self._outbox.poll()
            for lane in lanes:
                lane.collect()
                lane.advance()
            self._wake.wait(0.01)
            self._wake.clear()
        self._let_go(lanes, inside_consume=True)
        for p in partitions:
            self._lanes.pop(p.partition, None)
        self._consumer.incremental_unassign(partitions)
        log.info("%s: gave up partitions %s", self.name, sorted(p.partition for p in partitions))

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        """They are someone else's already: what is under way is cancelled, nothing is committed."""
        for p in partitions:
            if p.partition in self._lanes:
                self._lanes.pop(p.partition).cancel()
        self._consumer.incremental_unassign(partitions)
        log.warning("%s: lost partitions %s", self.name, sorted(p.partition for p in partitions))

    def _drain(self) -> None:
        """Sends everything that was read, within connect.drain_seconds, and commits; still a member of the
        group."""
        deadline = self._clock() + self._settings.connect.drain_seconds
        lanes = list(self._lanes.values())
        while not all(lane.idle for lane in lanes) and self._clock() < deadline and not self._stuck(lanes):
            self._turn(drain=True)
            lanes = list(self._lanes.values())
        self._let_go(lanes)
        self._measure_lag()

    def _stuck(self, lanes: list[SinkPartition]) -> bool:
        """Whether waiting would settle nothing: the sink is paused and no probe is out, or only what cannot
        be taken is left."""
        if self._activity.sending or any(lane.burying for lane in lanes):
            return False
        return bool(self._activity.paused) or all(lane.idle or lane.blocked for lane in lanes)

    def _let_go(self, lanes: list[SinkPartition], *, inside_consume: bool = False) -> None:
        for lane in lanes:
            lane.cancel()
            lane.advance()
        left = sum(len(lane.progress) for lane in lanes)
        if left:
            log.info(
                "%s: %d records that were read are not settled; whoever reads next sends them",
                self.name,
                left,
            )
        self._commit(lanes, wait=True, inside_consume=inside_consume)
