"""The Faust app of one worker: one agent on trace.events, on the batch transport."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import faust
from faust.types import TP

from streams.exit_codes import FAILED
from streams.runtime.credentials import broker_url, credentials
from streams.runtime.faust_transport import BatchTopic
from streams.runtime.owner import Owner
from tailrace.ledger.pipeline_identity import consumer_group
from tailrace.settings import Settings

log: Final = logging.getLogger("streams.runtime.app")


class App(faust.App):
    """A faust.App with an `Owner`, from which the transport gets its positions."""

    logger = logging.getLogger("faust.app")
    owner: Owner


def make_app(settings: Settings, owner: Owner, instance_id: str, datadir: str) -> App:
    """The Faust app of one worker.

    Args:
        instance_id: the static group membership; unique among the workers. It makes a quick restart
            cheap: the broker gives a member that comes back what it had. So the count of partitions is
            part of the name: else a member would not get partitions that were added while it was away.

    Raises:
        ConfigError: kafka.client has properties that aiokafka does not support.
    """
    s = settings.streams
    session = s.session_timeout_ms / 1000
    app = App(
        consumer_group(settings),
        broker=broker_url(settings.kafka.bootstrap_servers),
        broker_credentials=credentials(settings.kafka.client),
        store="memory://",
        datadir=datadir,
        web_enabled=False,
        topic_disable_leader=True,
        worker_redirect_stdouts=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{instance_id}-{owner.identity.partitions}",
        consumer_max_fetch_size=1_048_576,
        broker_max_poll_records=5000,
        broker_commit_interval=1.0,
        broker_session_timeout=session,
        broker_heartbeat_interval=max(0.3, session / 6),
        broker_request_timeout=max(30.0, session),
        broker_rebalance_timeout=max(10.0, session),
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
    )
    app.owner = owner
    topic = app.topic(owner.topic, acks=False, value_type=None, value_serializer="raw", key_serializer="raw")
    topic.__class__ = BatchTopic
    topic.decode = topic._compile_decode()

    def applied(partition: int, offset: int) -> None:
        app.consumer.applied(TP(owner.topic, partition), offset)

    def held(partition: int, holds: bool) -> None:
        tp = TP(owner.topic, partition)
        if holds:
            app.consumer.pause_partitions({tp})
        elif tp in app.consumer.assignment():
            app.consumer.resume_partitions({tp})

    owner.on_applied = applied
    owner.on_held = held

    @app.on_rebalance_complete.connect
    async def acquire(sender: Any, **kwargs: Any) -> None:
        wanted = {tp.partition for tp in app.consumer.assignment() if tp.topic == owner.topic}
        owner.observed.takes_over(wanted)
        await owner.acquire(wanted)
        owner.observed.takes_over(())

    @app.on_partitions_revoked.connect
    async def revoked(sender: Any, *args: Any, **kwargs: Any) -> None:
        owner.observed.revoked()

    @app.on_partitions_assigned.connect
    async def given(sender: Any, assigned: set[TP], **kwargs: Any) -> None:
        owner.observed.given(tp.partition for tp in assigned if tp.topic == owner.topic)

    @app.agent(topic, name="correlate")
    async def correlate(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            if (
                message.generation_id != app.consumer_generation_id
                or message.partition not in owner.partitions
            ):
                # from before a rebalance: the position was set again; if still owned, it is read again
                continue
            try:
                await owner.batch(message.partition, message.checksum, message.offset, message.value)
            except asyncio.CancelledError:
                raise  # shutdown: the consumer's on_stop drains
            except Exception as e:
                log.exception("partition %d: a batch of %d records", message.partition, len(message.value))
                owner.end(FAILED, f"partition {message.partition}: {type(e).__name__}: {e}")
            if len(message.value) > 500:
                await asyncio.sleep(0)

    return app
