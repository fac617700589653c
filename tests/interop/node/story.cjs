// kafkajs tells what it saw: one JSON object on standard output. Argument: the broker's address.
"use strict";
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const RECORDS = 200;
const told = {};

const kafka = new Kafka({ clientId: "story", brokers: [process.argv[2]], logLevel: logLevel.ERROR });

// Reads until `count` records came, then leaves the group, which commits what was read.
async function read(groupId, count) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: ["t"], fromBeginning: true });
  const got = [];
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, (event) => reject(event.payload.error));
    consumer
      .run({
        eachMessage: async ({ partition, message }) => {
          const headers = Object.entries(message.headers).map(([key, value]) => [key, value.toString()]);
          got.push([partition, message.offset, message.key.toString(), message.value.toString(), headers]);
          if (got.length === count) resolve();
        },
      })
      .catch(reject);
  });
  await consumer.disconnect();
  return got;
}

async function send(from, to, compression) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (let first = from; first < to; first += 50) {
    const messages = [];
    for (let n = first; n < Math.min(first + 50, to); n += 1) {
      messages.push({ key: `k${n}`, value: `${n}`, headers: { h: `${n}` }, partition: n % 3, timestamp: `${1000 + n}` });
    }
    await producer.send({ topic: "t", messages, compression });
  }
  await producer.disconnect();
}

async function main() {
  const admin = kafka.admin();
  await admin.connect();
  told.created = await admin.createTopics({ topics: [{ topic: "t", numPartitions: 2 }], waitForLeaders: true });
  told.createdAgain = await admin.createTopics({ topics: [{ topic: "t" }] });
  await admin.createPartitions({ topicPartitions: [{ topic: "t", count: 3 }] });
  const cluster = await admin.describeCluster();
  told.brokers = cluster.brokers.map(({ host, port }) => `${host}:${port}`);
  await send(0, RECORDS / 2, CompressionTypes.None);
  await send(RECORDS / 2, RECORDS, CompressionTypes.GZIP);
  told.read = await read("g", RECORDS);
  await send(RECORDS, RECORDS + 3, CompressionTypes.GZIP);
  told.resumed = await read("g", 3);
  told.committed = (await admin.fetchOffsets({ groupId: "g", topics: ["t"] }))[0].partitions;
  told.byTime = await admin.fetchTopicOffsetsByTimestamp("t", 1100);
  told.offsets = await admin.fetchTopicOffsets("t");
  told.group = (await admin.describeGroups(["g"])).groups[0].state;
  await admin.resetOffsets({ groupId: "g", topic: "t", earliest: true });
  told.again = (await read("g", RECORDS + 3)).length;
  await admin.deleteTopicRecords({ topic: "t", partitions: [{ partition: 0, offset: "5" }] });
  told.low = (await admin.fetchTopicOffsets("t")).map(({ low }) => low);
  const configs = await admin.describeConfigs({ resources: [{ type: 2, name: "t", configNames: ["retention.ms"] }] });
  told.retention = configs.resources[0].configEntries[0].configValue;
  await admin.deleteGroups(["g"]);
  await admin.deleteTopics({ topics: ["t"] });
  told.topics = await admin.listTopics();
  await admin.disconnect();
  process.stdout.write(JSON.stringify(told));
}

main().catch((error) => {
  console.error(error, JSON.stringify(told));
  process.exit(1);
});
