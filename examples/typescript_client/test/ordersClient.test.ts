// Tests of the client against the real server, with faults on demand.
//
// On Node.js 22 and 24, fetch does not repeat a request by itself, not even an idempotent one on a kept connection. So
// each repeated request in the journal comes from the client. A browser may repeat such a request by itself, and then
// even the first attempt of an assign may be answered "already exists".

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { OrderAlreadyExists, OrdersClient, RequestRefused } from "../src/ordersClient.js";
import { type Fault, OrdersServer } from "./server.js";

let server: OrdersServer;
let client: OrdersClient;
let pauses: number[];

before(async () => {
  server = await OrdersServer.start();
});

after(async () => {
  await server?.stop();
});

beforeEach(async () => {
  await server.reset();
  pauses = [];
  client = new OrdersClient(server.url, { backOffMs: 20, sleep: async (milliseconds) => pauses.push(milliseconds) });
});

async function journal(): Promise<(number | string)[]> {
  return (await server.requests()).map(({ status, outcome }) => status ?? outcome);
}

test("An order is assigned, acquired and cancelled.", async () => {
  await client.assign("order é+😀", "executor-1", "zone-1");
  const profile = await client.acquire("executor-1");
  assert.equal(profile?.order_id, "order é+😀");
  assert.equal(profile.execution_status, "acquired");
  assert.deepEqual(await client.acquire("executor-1"), profile);
  assert.equal(await client.cancel("order é+😀"), true);
  assert.equal(await client.cancel("order é+😀"), false);
  assert.equal(await client.acquire("executor-1"), null);
  assert.deepEqual(await journal(), [200, 200, 200, 200, 200, 200]);
});

test("A request that fails twice is sent a third time, each time after a longer pause.", async () => {
  await client.assign("order-1", "executor-1", "zone-1");
  await server.addFault({ operation: "acquire_order", kind: "error", count: 2 });
  assert.equal((await client.acquire("executor-1"))?.order_id, "order-1");
  assert.deepEqual(await journal(), [200, 500, 500, 200]);
  const [first = 0, second = 0, ...more] = pauses;
  assert.ok(first >= 20 && first <= 30 && second >= 40 && second <= 60 && more.length === 0, `pauses of ${pauses} ms`);
});

test("A request that always fails is given up.", async () => {
  await server.addFault({ operation: "cancel_order", kind: "error", count: 100 });
  await assert.rejects(client.cancel("order-1"), { name: "NoAnswer", inDoubt: true });
  assert.deepEqual(await journal(), [500, 500, 500, 500]);
});

for (const when of ["before", "after"] as const) {
  test(`An assign whose answer is lost ${when} the order is stored registers it once.`, async () => {
    await server.addFault({ operation: "assign_order", kind: "drop", when });
    await client.assign("order-1", "executor-1", "zone-1");
    assert.deepEqual(await journal(), ["dropped", when === "before" ? 200 : 400]);
    assert.deepEqual(
      (await server.orders()).map(({ order_id }) => order_id),
      ["order-1"],
    );
  });

  test(`An acquire whose answer is lost ${when} the order is acquired returns it.`, async () => {
    await client.assign("order-1", "executor-1", "zone-1");
    await server.addFault({ operation: "acquire_order", kind: "drop", when });
    assert.equal((await client.acquire("executor-1"))?.order_id, "order-1");
    assert.deepEqual(await journal(), [200, "dropped", 200]);
  });

  test(`A cancel whose answer is lost ${when} the order is cancelled leaves it cancelled.`, async () => {
    await client.assign("order-1", "executor-1", "zone-1");
    await server.addFault({ operation: "cancel_order", kind: "drop", when });
    assert.equal(await client.cancel("order-1"), when === "before");
    assert.deepEqual(await journal(), [200, "dropped", 200]);
    assert.deepEqual(
      (await server.orders()).map(({ execution_status }) => execution_status),
      ["cancelled"],
    );
  });
}

const operation = "assign_order";
const inDoubt: Fault[] = [
  { operation, kind: "reset", when: "before" },
  { operation, kind: "reset", when: "after" },
  { operation, kind: "truncate" },
  { operation, kind: "error", when: "after" },
  { operation, kind: "error", when: "before", status: 502, body: "html" },
  { operation, kind: "error", when: "after", status: 502, body: "html" },
  { operation, kind: "error", when: "after", status: 503, body: "empty" },
  { operation, kind: "error", when: "after", status: 504, body: "json" },
];
for (const fault of inDoubt) {
  test(`An assign in doubt is repeated, and registers the order once: ${JSON.stringify(fault)}`, async () => {
    await server.addFault(fault);
    await client.assign("order-1", "executor-1", "zone-1");
    assert.equal((await journal())[1], fault.when === "before" ? 200 : 400);
    assert.equal((await server.orders()).length, 1);
  });
}

test("A 429 is waited for, and leaves no doubt.", async () => {
  await server.addOrders({ order_id: "order-1", executor_id: "executor-1", zone_id: "zone-1" });
  await server.addFault({ operation, kind: "error", status: 429, body: "html", retry_after: 2 });
  await server.addFault({ operation, kind: "error", status: 429, body: "empty" });
  await assert.rejects(client.assign("order-1", "executor-2", "zone-1"), OrderAlreadyExists);
  const [waited = 0, paused = 0] = pauses;
  assert.ok(waited === 2_000 && paused <= 60, `pauses of ${pauses} ms`);
});

test("A wait that is too long is given up.", async () => {
  await server.addFault({ operation, kind: "error", status: 429, retry_after: 3_600 });
  await assert.rejects(client.assign("order-1", "executor-1", "zone-1"), { name: "NoAnswer", inDoubt: false });
  await server.addFault({ operation, kind: "error", status: 503, retry_after: 3_600 });
  await assert.rejects(client.assign("order-1", "executor-1", "zone-1"), { name: "NoAnswer", inDoubt: true });
  assert.deepEqual([await journal(), pauses], [[429, 503], []]);
});

test("A slow answer is not awaited: the request is sent again.", async () => {
  client = new OrdersClient(server.url, { timeoutMs: 1_000, backOffMs: 20 });
  await server.addFault({ operation: "assign_order", kind: "delay", when: "after", delay_ms: 10_000 });
  await client.assign("order-1", "executor-1", "zone-1");
  assert.deepEqual(await journal(), ["pending", 400]);
  assert.equal((await server.orders()).length, 1);
});

test("A request that is refused is not sent again.", async () => {
  await server.addFault({ operation: "acquire_order", kind: "error", status: 400 });
  await assert.rejects(client.acquire("executor-1"), { name: "RequestRefused", status: 400 });
  await assert.rejects(client.cancel(""), new RequestRefused(400, "Missing parameters, please provide order_id"));
  assert.deepEqual(await journal(), [400, 400]);
});

test("An order that somebody else registered is an error.", async () => {
  await client.assign("order-1", "executor-1", "zone-1");
  await assert.rejects(client.assign("order-1", "executor-2", "zone-1"), OrderAlreadyExists);
  assert.deepEqual(await journal(), [200, 400]);
});

test("A server that is gone leaves no doubt, also when it is back.", async () => {
  const gone = await OrdersServer.start();
  await gone.stop();
  client = new OrdersClient(gone.url, { attempts: 2, backOffMs: 20 });
  await assert.rejects(client.acquire("executor-1"), { name: "NoAnswer", inDoubt: false });

  let back: OrdersServer | undefined;
  const restart = async () => {
    back = await OrdersServer.start(new URL(gone.url).port);
    await back.addOrders({ order_id: "order-1", executor_id: "executor-1", zone_id: "zone-1" });
  };
  client = new OrdersClient(gone.url, { attempts: 2, sleep: restart });
  try {
    await assert.rejects(client.assign("order-1", "executor-2", "zone-1"), OrderAlreadyExists);
  } finally {
    await back?.stop();
  }
});
