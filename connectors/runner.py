"""One sink, running: its consumer group, its partitions, its send loop. Plumbing; the rules are in the modules it calls.

Two threads. The consumer's reads, decodes, maps, commits and answers rebalances; the send loop's sends. In flight, per
partition: one batch under way, one complete batch waiting, and what one `consume` call (`FETCH` records) brings on top of
it; then the partition is paused. Memory is bounded by that and by librdkafka's own queue (`PREFETCH_KB` a process).

The order that makes it at-least-once, and never less:

1. a record is read and gets a ticket; 2. it is delivered, filtered, or durably in the dead letters, which settles the
ticket; 3. the offset after the settled prefix is committed, with the ledger of exactly that prefix as metadata.

What is under way when a partition is lost or the process dies is sent again by the next owner, with the same ids.
"""

from __future__ import annotations

import logging
import random as random_module
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Literal

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.assignment import Assignment, OffsetLost, cannot_go_on
from connectors.contract import Health
from connectors.delivery import Activity, Courier, Settled
from connectors.lane import Counts, Lane, Letter
from connectors.letters import dead_letter, letter_key
from connectors.outbox import Outbox
from connectors.reading import Reader
from connectors.registry import Instance
from connectors.sending import SendLoop
from connectors.transport import AiohttpTransport
from tailrace import kafka
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Settings
from tailrace.topics import Names

log: Final = logging.getLogger("tailrace.connect")

FETCH: Final = 500
"""Records of one consume call."""
PREFETCH_KB: Final = 16_384
PATIENCE: Final = 0.02
"""Seconds that a full partition may hold up the others before it is paused: pausing discards what was fetched."""
"""Kilobytes that librdkafka may hold ahead."""

State = Literal["waiting", "running", "stopping", "stopped", "failed"]


class Status(msgspec.Struct, frozen=True):
    """One sink at one moment. Counts are since the process started."""

    sink: str
    state: State
    partitions: int
    lag: int
    """Records behind the end, over the partitions of this process; -1: not known yet."""
    in_flight: int
    """Records read and not settled."""
    read: int
    delivered: int
    filtered: int
    dead_lettered: int
    rejected_unidentified: int
    retried: int
    gaps: int
    repeated: int
    requests: int
    retrying: int
    """Batches that wait for another try now."""
    paused: str
    """Why the sink is paused; empty: it isn't."""
    error: str


class Runner:
    """Runs one instance. `run` blocks in the thread that calls it; `stop` and `status` may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        *,
        until_caught_up: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """until_caught_up: `run` returns once everything that was in the topic when its partitions came is settled.
        clock: monotonic seconds; now: Unix seconds."""
        self.name = instance.name
        self.counts = Counts()
        self.state: State = "waiting"
        self.error = ""
        self._settings, self._instance, self._until_caught_up = settings, instance, until_caught_up
        self._clock, self._now, self._random = clock, now, random
        self._names = Names.of(settings.topics)
        self._reader = Reader(instance.fields)
        self._activity = Activity()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._lanes: dict[int, Lane] = {}
        self._lag = -1

    def stop(self) -> None:
        """Asks it to drain and end."""
        self._stop.set()
        self._wake.set()

    def status(self) -> Status:
        a, c, lanes = self._activity, self.counts, tuple(self._lanes.values())
        return Status(
            self.name, self.state, len(lanes), self._lag, sum(len(x.progress) for x in lanes), c.read, c.delivered, c.filtered,
            c.dead_lettered, c.rejected_unidentified, c.retried, c.gaps, c.repeated, a.requests, a.retrying, a.paused, self.error,
        )  # fmt: skip

    def run(self) -> None:
        """Works until `stop`, then drains and commits within connect.drain_seconds and leaves the group.

        Raises `OffsetLost`, `KafkaUnavailable` (credentials), `SinkStopped`, and for bugs anything; then nothing that was
        not settled is committed.
        """
        try:
            if not self._ready():
                self.state = "stopped"
                return
            self._work()
            self.state = "stopped"
        except BaseException as e:
            self.state, self.error = "failed", str(e) or type(e).__name__
            raise

    # -- starting
    def _ready(self) -> bool:
        """Waits until the broker answers and the topics are there. False: stopped meanwhile."""
        said = False
        while not self._stop.is_set():
            try:
                admin, metadata = kafka.wait_for_broker(self._settings.kafka, stop=self._stop.is_set)
            except KafkaUnavailable:
                if self._stop.is_set():
                    return False
                raise
            needed = (self._names.enriched, self._names.dead_letters)
            missing = [n for n in needed if n not in metadata.topics or metadata.topics[n].error is not None]
            del admin
            if not missing:
                return True
            if not said:
                log.warning("%s: topic %s is missing: run `tailrace topics create`; waiting for it", self.name, " and ".join(missing))
                said = True
            self._stop.wait(1.0)
        return False

    def _work(self) -> None:
        loop = SendLoop(self.name, self._wake.set)
        try:
            http = loop.call(self._transport())
            self._courier = Courier(
                self.name, self._instance.sink, http, sleep=_sleep, random=self._random,
                max_attempts=self._settings.connect.max_attempts,
            )  # fmt: skip
            self._activity = self._courier.activity
            self._loop = loop
            self._check(http)
            self._outbox = Outbox(self._settings, self.name, self._clock)
            self._consume()
            loop.call(http.close(), 5.0)
        finally:
            loop.stop()

    async def _transport(self) -> AiohttpTransport:
        return AiohttpTransport(self._instance.ca_file)

    def _check(self, http: AiohttpTransport) -> None:
        """Says what the sink's check finds; what is wrong then is for retry and pause to handle."""
        future: Future[Health] = self._loop.submit(self._instance.sink.check(http))
        try:
            health = future.result(30.0)
        except TimeoutError:
            future.cancel()
            health = Health(False, "no answer within 30 s")
        except Exception as e:
            health = Health(False, str(e))
        if not health.ok:
            log.warning("%s: the check failed: %s; going on, nothing is lost", self.name, health.detail)

    # -- the loop
    def _consume(self) -> None:
        connect = self._settings.connect
        properties = kafka.client(
            self._settings.kafka,
            group_id=connect.group_prefix + self.name,
            client_id=f"tailrace-{self.name}",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
            auto_offset_reset="error",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=connect.session_timeout_ms,
            fetch_queue_backoff_ms=5,
            queued_max_messages_kbytes=PREFETCH_KB,
        )
        client_log = logging.getLogger("tailrace.connect.client")
        self._consumer: Any = Consumer({**properties, "on_commit": self._committed, "logger": client_log})
        self._assignment = Assignment(self.name, self._consumer, self._names.enriched)
        self._consumer.subscribe(
            [self._names.enriched], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._next_commit = self._clock()
        self.state = "running"
        try:
            while not self._stop.is_set() and not (self._until_caught_up and self._caught_up()):
                self._turn()
            self.state = "stopping"
            self._give_up(list(self._lanes.values()), send_all=True)
        finally:
            for lane in self._lanes.values():
                lane.cancel()
            self._lanes.clear()
            self._consumer.close()
            self._outbox.close(0.0 if self.state == "running" else 1.0)

    def _turn(self, *, drain: bool = False) -> None:
        """One round: what was sent, what is to send, what is full, what is to commit, what is to read."""
        self._outbox.poll()
        now = self._clock()
        busy = False
        for lane in self._lanes.values():
            self._serve(lane, now, drain=drain)
            busy = busy or lane.sending or lane.waiting > 0
        self._throttle(drain)
        if now >= self._next_commit:
            self._next_commit = now + self._settings.connect.commit_interval_ms / 1000
            self._commit(list(self._lanes.values()))
            self._measure_lag()
        for message in self._consumer.consume(FETCH, 0.005 if busy else 0.05):
            self._take(message)

    def _serve(self, lane: Lane, now: float, *, drain: bool = False) -> None:
        lane.collect()
        batch = lane.next_batch(now, drain=drain)
        if batch is not None:
            future: Future[list[Settled]] = self._loop.submit(self._courier.deliver(batch))
            lane.sent(future)
        lane.advance()

    def _throttle(self, drain: bool) -> None:
        """Pauses full partitions and resumes the others. A fast sink gets a moment first."""
        if not drain and any(lane.full and not lane.paused for lane in self._lanes.values()):
            self._wake.clear()
            if not any(lane.settled_meanwhile for lane in self._lanes.values()):
                self._wake.wait(PATIENCE)
            for lane in self._lanes.values():
                self._serve(lane, self._clock())
        for lane in self._lanes.values():
            if (drain or lane.full) != lane.paused:
                lane.paused = not lane.paused
                change = self._consumer.pause if lane.paused else self._consumer.resume
                change([TopicPartition(self._names.enriched, lane.partition)])

    def _take(self, message: Message) -> None:
        error = message.error()
        lane = self._lanes.get(message.partition())
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                if lane is not None:
                    lane.at_end = True
                return
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise self._assignment.offset_lost(message.partition())
            if cannot_go_on(error):
                raise KafkaUnavailable(f"{self.name}: {error.str()}")
            log.warning("%s: %s", self.name, error.str())
            return
        if lane is not None:
            lane.accept(
                message.offset(), message.timestamp()[1], message.key(), message.value(), message.headers(), self._clock()
            )

    def _bury(self, letter: Letter) -> None:
        """Dead-letters one record; its ticket is settled when the broker has acknowledged that."""
        s = letter.source
        log.warning(
            "%s: %s[%d]@%d (event %s) goes to the dead letters: %s: %s %s", self.name, s.topic, s.partition, s.offset, s.event_id,
            letter.stage, letter.rejected.reason, letter.rejected.detail,
        )  # fmt: skip

        def acknowledged() -> None:
            letter.ticket.tally = letter.tally

        record = dead_letter(
            letter.stage, self.name, s, letter.rejected, int(self._now() * 1000), attempts=letter.attempts, value=letter.value,
            keep=self._settings.topics.max_event_bytes,
        )  # fmt: skip
        self._outbox.write(letter_key(s), record, acknowledged)

    # -- committing
    def _commit(self, lanes: list[Lane], *, wait: bool = False) -> None:
        positions = self._assignment.positions([lane.partition for lane in lanes if lane.idle])
        offsets = []
        for lane in lanes:
            due = lane.to_commit(positions.get(lane.partition, -1))
            if due is not None:
                lane.committed = due
                offsets.append(TopicPartition(self._names.enriched, lane.partition, due[0], due[1].encode()))
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as e:
            self._committed(e.args[0], offsets)

    def _committed(self, error: KafkaError | None, offsets: list[Any]) -> None:
        """What became of a commit; one that failed is made again, with what is settled by then."""
        failed = [p for p in offsets if error is not None or p.error is not None]
        if not failed:
            return
        log.warning("%s: commit of %d partitions failed: %s; again", self.name, len(failed), (error or failed[0].error).str())
        for p in failed:
            if p.partition in self._lanes:
                self._lanes[p.partition].committed = None

    # -- giving up partitions
    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        for start in self._assignment.take(partitions):
            self._lanes[start.partition] = Lane(
                self.name, self._names.enriched, start.partition, self._instance.sink, self._reader, self._instance.limits,
                start.ledger, start.offset, self.counts, self._bury,
            )  # fmt: skip
        log.info("%s: has partitions %s", self.name, sorted(self._lanes))

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        self._give_up([self._lanes[p.partition] for p in partitions if p.partition in self._lanes])
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

    def _give_up(self, lanes: list[Lane], *, send_all: bool = False) -> None:
        """Lets what is under way finish within connect.drain_seconds, cancels the rest, commits what is settled.

        send_all: also sends what waits in the buffers, and goes on serving the group meanwhile.
        """
        deadline = self._clock() + self._settings.connect.drain_seconds
        while self._clock() < deadline:
            if send_all:
                self._turn(drain=True)
                lanes = list(self._lanes.values())
                if all(lane.idle for lane in lanes):
                    break
                continue
            self._outbox.poll(0.005)
            for lane in lanes:
                lane.collect()
                lane.advance()
            if not any(lane.sending or lane.burying for lane in lanes):
                break
            self._wake.wait(0.02)
            self._wake.clear()
        undone = sum(len(lane.progress) for lane in lanes)
        for lane in lanes:
            lane.cancel()
            lane.advance()
        if undone:
            log.info("%s: %d records are not settled; they stay uncommitted and are sent by the next owner", self.name, undone)
        self._commit(lanes, wait=True)
