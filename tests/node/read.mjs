// What LaunchDarkly's SDKs for Node make of a big segment store. Each line of stdin is one JSON object:
//
//   sdk       "9" (@launchdarkly/node-server-sdk) or "6" (launchdarkly-node-server-sdk)
//   store     {kind: "redis", url, prefix}, {kind: "cluster", nodes: [{host, port}], prefix}
//             or {kind: "dynamodb", table, region, endpoint, prefix}
//   segments  [{key, generation, everybody}]; with everybody, a rule takes in whom the store says nothing of
//   contexts  context keys, all of the kind user
//
// and so is each line of stdout:
//
//   {status: {available, stale}, contexts: {key: {segments: [keys], statuses: [bigSegmentsStatus]}}}
//
// Flags come from memory, nothing is sent anywhere: a new client evaluates one flag for each segment.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);

function openStore({ kind, ...where }) {
  if (kind === "dynamodb") {
    const { DynamoDBBigSegmentStore } = require("launchdarkly-node-server-sdk-dynamodb");
    const clientOptions = { region: where.region, endpoint: where.endpoint };
    return [DynamoDBBigSegmentStore(where.table, { clientOptions, prefix: where.prefix }), () => {}];
  }
  const { RedisBigSegmentStore } = require("@launchdarkly/node-server-sdk-redis");
  if (kind === "redis") return [RedisBigSegmentStore({ redisOpts: where.url, prefix: where.prefix }), () => {}];
  const client = new (require("ioredis").Cluster)(where.nodes);
  return [RedisBigSegmentStore({ client, prefix: where.prefix }), () => client.disconnect()];
}

const anybody = { attribute: "key", op: "startsWith", values: [""], negate: false };

const segmentOf = ({ key, generation, everybody }) => ({
  key, generation, version: 1, unbounded: true, unboundedContextKind: "user", salt: "s", included: [], excluded: [],
  rules: everybody ? [{ id: "everybody", clauses: [anybody] }] : [],
});

const flagOf = ({ key }) => ({
  key, version: 1, on: true, salt: "s", variations: [false, true], offVariation: 0, fallthrough: { variation: 0 },
  targets: [], prerequisites: [],
  rules: [{ id: "in", variation: 1, clauses: [{ attribute: "", op: "segmentMatch", values: [key], negate: false }] }],
});

// SDK 6 has no flags from memory but those of a data source of one's own: it fills the store and says that it is ready.
const flagsInMemory = (segments) => (config) => ({
  start(ready) {
    const byKey = (items) => Object.fromEntries(items.map((item) => [item.key, item]));
    const data = { features: byKey(segments.map(flagOf)), segments: byKey(segments.map(segmentOf)) };
    config.featureStore.init(data, () => ready());
  },
  stop() {},
  close() {},
});

function testData(segments) {
  const { TestData } = require("@launchdarkly/node-server-sdk").integrations;
  const data = new TestData();
  for (const segment of segments) {
    data.usePreconfiguredSegment(segmentOf(segment));
    data.usePreconfiguredFlag(flagOf(segment));
  }
  return data.getFactory();
}

async function read({ sdk, store, segments, contexts }) {
  const { init, basicLogger } = require(sdk === "6" ? "launchdarkly-node-server-sdk" : "@launchdarkly/node-server-sdk");
  const [bigSegmentStore, closeStore] = openStore(store);
  const client = init("sdk-key", {
    sendEvents: false,
    diagnosticOptOut: true,
    logger: basicLogger({ level: "warn", destination: console.error }),
    updateProcessor: sdk === "6" ? flagsInMemory(segments) : testData(segments),
    bigSegments: { store: bigSegmentStore },
  });
  await client.waitForInitialization({ timeout: 20 });
  const found = {};
  for (const key of contexts) {
    const context = sdk === "6" ? { key } : { kind: "user", key };
    const details = await Promise.all(segments.map((each) => client.variationDetail(each.key, context, null)));
    found[key] = {
      segments: segments.filter((_, index) => details[index].value === true).map((each) => each.key),
      statuses: [...new Set(details.map(({ reason }) => reason.bigSegmentsStatus ?? reason.kind))],
    };
  }
  const { available, stale } = await client.bigSegmentStoreStatusProvider.requireStatus();
  client.close();
  closeStore();
  return { status: { available, stale }, contexts: found };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await read(JSON.parse(line)))}\n`);
}
process.exit(0);
