"""Against a real Apicurio Registry: `pytest --vendors tests/vendor`. The server is downloaded once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace import codec
from tailrace.broker import Broker
from tailrace.codec import schemas
from tailrace.codec.schemas import Resolver
from tailrace.errors import ConfigError
from tailrace.records import Kind, TraceEvent
from tailrace.schema_registry import Client, attach, reports
from tailrace.schema_registry.client import LEVEL
from tailrace.schema_registry.subjects import Framing, subject_of, text_of
from tailrace.settings import Registry, Settings, Topics
from tests.harness import writers
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until
from tests.harness.writers import NEWER, OURS
from tests.vendor.apicurio import VERSIONS, Apicurio

pytestmark = pytest.mark.vendors


@pytest.fixture(scope="module", params=VERSIONS)
def apicurio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    try:
        server = Apicurio(request.param, tmp_path_factory.mktemp("apicurio"))
    except OSError as e:
        pytest.skip(
            f"Apicurio Registry {request.param} is not in ~/.cache/tailrace/vendors and cannot be "
            f"downloaded: {e}"
        )
    with server:
        yield server


def of(apicurio: Apicurio, tmp_path: Path, prefix: str) -> Settings:
    registry = Registry(url=apicurio.url, cache_dir=str(tmp_path / "cache"), timeout_seconds=20)
    return Settings(registry=registry, topics=Topics(prefix=prefix))


def test_registering_looking_up_and_reading_by_id(apicurio: Apicurio, tmp_path: Path) -> None:
    settings = of(apicurio, tmp_path, "one.")
    client, subject = Client(settings.registry), subject_of(settings)
    assert (client.versions(subject), client.lookup(subject, text_of()), client.schema(99_999)) == (
        [],
        None,
        None,
    )
    report = reports.dry_run(settings)
    assert (report.fine, report.id) == (True, None)
    frame = Framing(settings).frame
    assert frame is not None
    assert client.level(subject) == LEVEL
    assert reports.register(settings).id == int.from_bytes(frame[1:], "big")
    resolver = Resolver()
    source = attach(settings, resolver)
    assert source is not None
    newer = client.register(subject, json.dumps(NEWER))
    for wanted in (frame, schemas.id_frame(newer)):
        source.want(wanted)
        wait_until(lambda w=wanted: resolver.knows(w), 60, "the schema is known")  # type: ignore[misc]
    source.close()
    assert resolver.find(frame) == ("TraceEvent", OURS)
    assert [f["name"] for f in resolver.find(schemas.id_frame(newer)).schema["fields"]][-1] == "weather"
    assert client.versions(subject) == [1, 2]
    assert reports.check(settings).problems == []


def test_a_version_that_breaks_others_is_refused(apicurio: Apicurio, tmp_path: Path) -> None:
    settings = of(apicurio, tmp_path, "two.")
    client, subject = Client(settings.registry), subject_of(settings)
    Framing(settings)
    broken = json.dumps({**OURS, "fields": [*OURS["fields"], {"name": "bad", "type": "string"}]})
    assert client.incompatible(subject, broken) != []
    with pytest.raises(Exception, match="answers 409"):
        client.register(subject, broken)
    taken = of(apicurio, tmp_path, "taken.")
    client.register(
        subject_of(taken),
        '{"type": "record", "name": "TraceEvent", "fields": [{"name": "a", "type": "int"}]}',
    )
    client.set_level(subject_of(taken), LEVEL)
    with pytest.raises(ConfigError, match=r"subject taken\.events-value does not accept"):
        Framing(taken)


def test_confluents_serializer_and_tailrace_read_each_other(apicurio: Apicurio, tmp_path: Path) -> None:
    pytest.importorskip("authlib", reason="needs pip install 'confluent-kafka[schemaregistry]'")
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    client = SchemaRegistryClient({"url": apicurio.url})
    topic = SerializationContext("c.events", MessageField.VALUE)
    plain = {f["name"]: f.get("default") for f in NEWER["fields"]}
    plain |= {
        "event_id": "e",
        "source_id": "s",
        "kind": "tool",
        "started_at": 1,
        "ended_at": 2,
        "published_at": 3,
    }
    value = AvroSerializer(client, json.dumps(NEWER))({**plain, "weather": "rainy", "name": "größer"}, topic)
    assert value[:1] == b"\0"
    settings = of(apicurio, tmp_path, "c.")
    source = attach(settings)
    assert source is not None
    source.want(value[:5])
    wait_until(lambda: schemas.known.knows(value[:5]), 60, "the schema is known")
    source.close()
    event = codec.decode(value, TraceEvent)
    assert (event.event_id, event.kind, event.name) == ("e", Kind.TOOL, "größer")
    back = AvroDeserializer(client)(codec.encode(event, Framing(settings).frame), topic)
    assert (back["event_id"], back["kind"], back["name"], "weather" in back) == ("e", "tool", "größer", False)


@pytest.mark.kafka
def test_mixed_writers_while_the_registry_hangs_and_comes_back(
    apicurio: Apicurio, broker: Broker, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    given = Registry(url=apicurio.url, cache_dir=str(tmp_path / "cache"), timeout_seconds=5)
    client = Client(given)
    writers.run(pipeline, given, lambda s, t: client.register(s, json.dumps(t)), apicurio.away, apicurio.back)
