// One life of an mqtt.js client over WebSocket: `node mqttjs.cjs URL VERSION COUNT`. Half-way it says "half" and the edge is
// killed; mqtt.js connects again by itself and sends again what was not acknowledged. The last line is what it saw, in JSON.
const mqtt = require("mqtt");
const WebSocket = require("ws");

const [url, version, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const isV5 = version === 5;
const WINDOW = 20;
let socket;
const client = mqtt.connect(url, {
  createWebsocket: (to, subprotocols) => (socket = new WebSocket(to, subprotocols)),
  protocolVersion: version,
  clientId: "page",
  clean: false,
  reconnectPeriod: 100,
  resubscribe: false, // the edge has the session
  properties: isV5 ? { sessionExpiryInterval: 600, userProperties: { "hw.receipts": "1" } } : undefined,
});
const seen = { present: [], receipts: 0, subprotocol: "", received: {} };
client.on("error", () => {});
client.on("message", (topic, payload, packet) => {
  const key = `${packet.qos} ${payload}`;
  seen.received[key] = (seen.received[key] || 0) + 1;
});
client.on("packetreceive", (packet) => {
  const properties = packet.cmd === "puback" && packet.properties;
  if (properties && properties.userProperties["hw.receipt"]) seen.receipts += 1;
});

function publish(n) {
  return new Promise((resolve, reject) =>
    client.publish("page/x", String(n), { qos: 1 + (n % 2) }, (error) => (error ? reject(error) : resolve())),
  );
}

async function live() {
  await client.subscribeAsync("page/#", { qos: 2 });
  const pending = [];
  for (let n = 0; n < count; n += 1) {
    if (n >= WINDOW) await pending[n - WINDOW];
    pending.push(publish(n));
    if (n === count / 2) console.log("half");
  }
  await Promise.all(pending);
  while (Object.keys(seen.received).length < count) await new Promise((resolve) => setTimeout(resolve, 5));
  await client.endAsync();
  console.log(JSON.stringify(seen));
}

client.on("connect", (connack) => {
  seen.present.push(connack.sessionPresent);
  seen.subprotocol = socket.protocol;
  if (seen.present.length === 1) live();
});
