"""Apache Kafka's own tools, the Java client in them unmodified and with its defaults, against both brokers."""

from __future__ import annotations

import json
import re
import threading
import uuid
from pathlib import Path

import pytest

from tests.interop.kafka.running import node_process
from tests.interop.kafka.test_confluent import Sent, consumer_of, poll, producer_of

from .cluster import Cluster
from .tools import Tools

pytestmark = pytest.mark.interop

HOUR_MS = 3_600_000


def fresh(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:8]}"


def test_a_topic_is_made_listed_grown_described_and_deleted(kafka: Cluster) -> None:
    topic = kafka.make_topic(3, "retention.ms=86400000")
    assert topic in kafka("kafka-topics", "--list").lines
    assert kafka.run("kafka-topics", "--create", "--topic", topic).status == 1, "it exists"
    kafka("kafka-topics", "--alter", "--topic", topic, "--partitions", "5")
    assert kafka.run("kafka-topics", "--alter", "--topic", topic, "--partitions", "2").status == 1
    described = kafka("kafka-topics", "--describe", "--topic", topic).out
    head = r"PartitionCount: 5\tReplicationFactor: 1\tConfigs: .*retention.ms=86400000"
    assert re.search(head, described), described
    assert re.search(r"TopicId: [\w-]{22}\t", described)
    assert len(re.findall(r"\tPartition: \d\tLeader: \d+\tReplicas: \d+\tIsr: \d+", described)) == 5
    kafka("kafka-topics", "--delete", "--topic", topic)
    assert topic not in kafka("kafka-topics", "--list").lines
    assert kafka.run("kafka-topics", "--describe", "--topic", topic).status == 1


def test_the_java_producer_is_idempotent_and_its_records_come_back(kafka: Cluster) -> None:
    topic = kafka.make_topic()
    records = [f"h:{n},other:ü\tkey {n % 7}\tvalue {n}" for n in range(500)]
    parse = ("--property", "parse.key=true", "--property", "parse.headers=true")
    kafka.produce(topic, records, *parse)
    show = ("key", "headers", "offset")
    asked = [word for what in show for word in ("--property", f"print.{what}=true")]
    got = kafka.consume(topic, 500, "--from-beginning", *asked)
    assert got == [f"Offset:{n}\t{record}" for n, record in enumerate(records)]
    of_partition = ("describe-producers", "--topic", topic, "--partition", "0")
    address = ("--bootstrap-server", kafka.bootstrap)
    last = kafka.tools("kafka-transactions", *address, *of_partition).lines[1].split()
    assert last[1:4] == ["0", "-1", "499"], "epoch 0, no coordinator, 500 sequence numbers"


def test_a_group_goes_on_where_it_committed(kafka: Cluster) -> None:
    topic, group = kafka.make_topic(4), fresh("g")
    kafka.produce(topic, [f"k{n}\t{n}" for n in range(100)], "--property", "parse.key=true")
    ends = {p: int(offset) for p, offset in kafka.offsets(topic, "-1").items()}
    assert sum(ends.values()) == 100
    first = kafka.consume(topic, 40, "--group", group, "--from-beginning")
    after = kafka.committed(group, topic)
    assert sum(int(at) for at, _, _ in after.values()) == 40
    assert all(int(end) == ends[p] == int(at) + int(lag) for p, (at, end, lag) in after.items())
    rest = kafka.consume(topic, 60, "--group", group)
    assert sorted(map(int, first + rest)) == list(range(100))
    assert {lag for _, _, lag in kafka.committed(group, topic).values()} == {"0"}


def test_a_group_in_use_is_described_and_cannot_be_taken_from_under_its_member(
    kafka: Cluster,
) -> None:
    topic, group = kafka.make_topic(2), fresh("g")
    consumer = consumer_of(kafka.bootstrap, group, **{"client.id": "the-member"})
    consumer.subscribe([topic])
    try:
        kafka.produce(topic, ["a"])
        poll(consumer, lambda messages: len(messages) == 1)
        consumer.commit(asynchronous=False)
        describe = ("kafka-consumer-groups", "--describe", "--group", group)
        state = kafka(*describe, "--state").out
        assert re.search(rf"^{group} .* range +Stable +1 *$", state, re.MULTILINE), state
        members = kafka(*describe, "--members", "--verbose").out
        row = rf"^{group} +the-member-\S+ +/?127\.0\.0\.1 +the-member +2 .*{topic}:0,1 "
        assert re.search(row, members, re.MULTILINE), members
        listed = kafka("kafka-consumer-groups", "--list", "--state").out
        assert re.search(rf"^{group} +Stable *$", listed, re.MULTILINE), listed
        listed = kafka("kafka-groups", "--list", "--group-type", "classic").out
        assert re.search(rf"^{group} +Classic +consumer *$", listed, re.MULTILINE), listed
        assert group not in kafka("kafka-groups", "--list", "--group-type", "share").out
        refused = kafka.run("kafka-consumer-groups", "--delete", "--group", group)
        assert "GroupNotEmptyException" in refused.out + refused.err
        reset = ("--reset-offsets", "--group", group, "--topic", topic, "--to-earliest")
        refused = kafka.run("kafka-consumer-groups", *reset, "--execute")
        assert "Assignments can only be reset if the group" in refused.out + refused.err
    finally:
        consumer.close()
    done = kafka("kafka-consumer-groups", "--delete", "--group", group).out
    assert "was successful" in done
    assert group not in kafka("kafka-consumer-groups", "--list").lines


def test_offsets_of_a_group_are_reset_in_each_way(kafka: Cluster) -> None:
    topic, group = kafka.make_topic(), fresh("g")
    kafka.produce(topic, [str(n) for n in range(50)])
    kafka.consume(topic, 50, "--group", group, "--from-beginning")

    def reset(*how: str) -> str:
        ask = ("--reset-offsets", "--group", group, "--topic", topic)
        table = kafka("kafka-consumer-groups", *ask, *how).out
        found = re.search(rf"^{group} +{topic} +0 +(\d+) *$", table, re.MULTILINE)
        assert found, table
        return found[1]

    assert reset("--to-earliest", "--dry-run") == "0"
    assert kafka.committed(group, topic)[0] == ("50", "50", "0"), "only shown"
    assert reset("--to-offset", "20", "--execute") == "20"
    assert reset("--shift-by", "5", "--execute") == "25"
    assert reset("--to-datetime", "2000-01-01T00:00:00.000", "--dry-run") == "0"
    assert reset("--by-duration", "PT1H", "--dry-run") == "0"
    assert reset("--to-datetime", "2100-01-01T00:00:00.000", "--dry-run") == "50"
    assert reset("--to-current", "--dry-run") == "25"
    assert kafka.committed(group, topic)[0] == ("25", "50", "25")
    got = kafka.consume(topic, 25, "--group", group)
    assert got == [str(n) for n in range(25, 50)]


def test_committed_offsets_of_one_topic_are_deleted(kafka: Cluster) -> None:
    one, other, group = kafka.make_topic(), kafka.make_topic(), fresh("g")
    for topic in (one, other):
        kafka.produce(topic, ["a", "b"])
        kafka.consume(topic, 2, "--group", group, "--from-beginning")
    delete = ("--delete-offsets", "--group", group)
    done = kafka("kafka-consumer-groups", *delete, "--topic", one).out
    assert "Successful" in done
    assert one not in kafka("kafka-consumer-groups", "--describe", "--group", group).out
    assert kafka.committed(group, other)[0][0] == "2"
    consumer = consumer_of(kafka.bootstrap, group)
    consumer.subscribe([other])
    try:
        kafka.produce(other, ["c"])
        poll(consumer, lambda messages: len(messages) == 1)
        refused = kafka.run("kafka-consumer-groups", *delete, "--topic", other).out
        assert "GROUP_SUBSCRIBED_TO_TOPIC" in refused or "actively subscribed" in refused, refused
    finally:
        consumer.close()
    missing = kafka.run(
        "kafka-consumer-groups", "--delete-offsets", "--group", "none", "--topic", one
    )
    assert "not exist" in missing.out or "could not be found" in missing.out, missing


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_offsets_by_time_are_the_ones_the_original_tells(kafka: Cluster, codec: str) -> None:
    topic = kafka.make_topic(3)
    settings = {"compression.type": codec, "linger.ms": 50, "batch.num.messages": 7}
    producer, sent = producer_of(kafka.bootstrap, **settings), Sent()
    base = 1_700_000_000_000
    # rising; out of order within a batch and across batches; all the same
    times = ([n * 100 for n in range(20)], [500, 100, 900, 900, 300, 100] * 3, [250] * 10)
    for partition, own in enumerate(times):
        for n in own:
            producer.produce(
                topic, b"x", partition=partition, timestamp=base + n, on_delivery=sent.report
            )
    assert producer.flush(20) == 0
    assert not sent.failed
    ends = {0: "20", 1: "18", 2: "10"}
    assert kafka.offsets(topic, "-1") == kafka.offsets(topic, "latest") == ends
    assert kafka.offsets(topic, "-2") == {0: "0", 1: "0", 2: "0"}
    assert kafka.offsets(topic, "-3") == {0: "19", 1: "2", 2: "0"}, "the first of the latest"
    assert kafka.offsets(topic, str(base)) == {0: "0", 1: "0", 2: "0"}
    assert kafka.offsets(topic, str(base + 250)) == {0: "3", 1: "0", 2: "0"}
    assert kafka.offsets(topic, str(base + 900)) == {0: "9", 1: "2"}, "nothing in 2 is so late"
    assert kafka.offsets(topic, str(base + HOUR_MS)) == {}


def test_records_are_deleted_up_to_an_offset(kafka: Cluster, tmp_path: Path) -> None:
    topic = kafka.make_topic()
    kafka.produce(topic, [str(n) for n in range(20)])
    ask = tmp_path / "offsets.json"
    partition = {"topic": topic, "partition": 0, "offset": 12}
    ask.write_text(json.dumps({"partitions": [partition], "version": 1}))
    done = kafka("kafka-delete-records", "--offset-json-file", str(ask)).out
    assert f"partition: {topic}-0\tlow_watermark: 12" in done
    assert kafka.offsets(topic, "-2") == {0: "12"}
    assert kafka.consume(topic, 8, "--from-beginning") == [str(n) for n in range(12, 20)]


def test_settings_of_a_topic_are_altered_and_fall_back(kafka: Cluster) -> None:
    topic = kafka.make_topic(1, "retention.ms=86400000")
    of_topic = ("kafka-configs", "--entity-type", "topics", "--entity-name", topic)
    kafka(*of_topic, "--alter", "--add-config", "retention.bytes=1000000,max.message.bytes=2000")
    kafka(*of_topic, "--alter", "--delete-config", "retention.ms")
    shown = kafka(*of_topic, "--describe").out
    assert "retention.bytes=1000000 sensitive=false" in shown
    assert "retention.ms" not in shown
    assert re.search(r"  retention.ms=604800000 ", kafka(*of_topic, "--describe", "--all").out)
    refused = kafka.run(*of_topic, "--alter", "--add-config", "no.such.setting=1")
    assert refused.status == 1
    assert "InvalidConfigurationException" in refused.err
    kafka.run("kafka-console-producer", "--topic", topic, stdin="x" * 3000 + "\n")
    assert kafka.offsets(topic, "-1") == {0: "0"}, "a record above the topic's limit is refused"


def test_the_cluster_describes_itself(kafka: Cluster) -> None:
    assert re.fullmatch(r"Cluster ID: [\w-]{20,22}\n", kafka("kafka-cluster", "cluster-id").out)
    node = kafka("kafka-cluster", "list-endpoints").lines[1].split()
    host, _, port = kafka.bootstrap.partition(":")
    assert node[1:] == [host, port, "null", "unfenced", "broker"]
    of_node = ("kafka-configs", "--entity-type", "brokers", "--entity-name", node[0])
    assert f"All configs for broker {node[0]}" in kafka(*of_node, "--describe", "--all").out
    versions = kafka("kafka-broker-api-versions").out
    assert f"{kafka.bootstrap} (id: {node[0]} rack: null isFenced: false)" in versions
    assert "unusable" not in versions, "each API that is there has a version that Java speaks too"


def test_twenty_thousand_records_go_in_and_come_out(kafka: Cluster) -> None:
    topic = kafka.make_topic(3)
    send = ("--topic", topic, "--num-records", "20000", "--record-size", "200")
    done = kafka("kafka-producer-perf-test", *send, "--throughput", "-1").out
    assert done.startswith("20000 records sent"), done
    read = ("--topic", topic, "--messages", "20000", "--timeout", "60000")
    columns = kafka("kafka-consumer-perf-test", *read).lines[1].split(", ")
    assert columns[4] == "20000"


def test_static_cooperative_members_that_read_committed_are_served(kafka: Cluster) -> None:
    topic, group = kafka.make_topic(), fresh("g")
    kafka.produce(topic, ["a", "b"])
    cooperative = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
    settings = (f"partition.assignment.strategy={cooperative}", "group.instance.id=one")
    modern = [word for setting in settings for word in ("--consumer-property", setting)]
    read = ("--group", group, "--from-beginning", "--isolation-level", "read_committed")
    assert kafka.consume(topic, 2, *read, *modern) == ["a", "b"]
    kafka.produce(topic, ["c"])
    assert kafka.consume(topic, 1, *read, *modern) == ["c"], "the same member again, at once"


def test_what_is_not_there_is_refused_at_once(headwater: Cluster) -> None:
    topic = headwater.make_topic()
    headwater.produce(topic, ["a"])
    send = ("--topic", topic, "--num-records", "10", "--record-size", "10", "--throughput", "-1")
    transactional = ("--transactional-id", "x", "--transaction-duration-ms", "100")
    refused = headwater.run("kafka-producer-perf-test", *send, *transactional)
    assert refused.status == 1
    assert "TransactionalIdAuthorizationException" in refused.err
    new_groups = ("--consumer-property", "group.protocol=consumer")
    refused = headwater.run("kafka-console-consumer", "--topic", topic, *new_groups)
    assert "Processed a total of 0 messages" in refused.err
    of_topic = ("kafka-configs", "--entity-type", "topics", "--entity-name", topic)
    refused = headwater.run(*of_topic, "--alter", "--add-config", "segment.bytes=1000000")
    assert "no such topic configuration: segment.bytes" in refused.err


def test_a_killed_node_loses_and_doubles_nothing_of_a_java_producer(
    tools: Tools, tmp_path: Path
) -> None:
    with node_process(tmp_path) as node:
        kafka = Cluster("headwater", node.address, tools)
        topic = kafka.make_topic()
        over = threading.Event()

        def kill_now_and_then() -> None:
            while not over.wait(0.7):
                node.kill()
                node.start()

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            # each record is its number
            send = ("--topic", topic, "--num-records", "9000", "--payload-monotonic")
            done = kafka("kafka-producer-perf-test", *send, "--throughput", "3000").out
        finally:
            over.set()
            killer.join()
        assert re.search(r"^9000 records sent", done, re.MULTILINE), done
        assert kafka.offsets(topic, "-1") == {0: "9000"}
        assert kafka.consume(topic, 9000, "--from-beginning") == [str(n) for n in range(9000)]
        log = (tmp_path / "node.log").read_text()
        assert "Traceback" not in log, log
