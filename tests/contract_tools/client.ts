// Assigns, acquires and cancels an order with the generated types. The contract narrows the type of each message.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2]! });
const query = { order_id: "typescript é+😀", executor_id: "typescript", zone_id: "zone" };

const assigned = await client.PUT("/orders/assign", { params: { query } });
const message: "Successfully created" | undefined = assigned.data?.message;
console.log(message);

const again = await client.PUT("/orders/assign", { params: { query } });
console.log(again.response.status, again.error?.message);

const acquired = await client.GET("/order/acquire", { params: { query: { executor_id: query.executor_id } } });
if (acquired.data?.message === "Successfully acquired") {
  console.log(acquired.data.order_profile.order_id === query.order_id, acquired.data.order_profile.execution_status);
}

const canceled = await client.POST("/order/cancel", { params: { query: { order_id: query.order_id } } });
console.log(canceled.data?.message);
