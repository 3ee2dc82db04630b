// A client of the orders service that repeats failed requests, as the contract allows.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

export type OrderProfile = Schemas["OrderAcquired"]["order_profile"];

// The contract's messages: if one of them changes in the contract, this code does not compile.
const ALREADY_EXISTS: Schemas["OrderAlreadyExists"]["message"] = "AssignedOrder with provided orderId already exists";
const ACQUIRED: Schemas["OrderAcquired"]["message"] = "Successfully acquired";
const CANCELED: Schemas["OrderCanceled"]["message"] = "Successfully canceled";

/** The service refused a request. A repeated request would be refused too. */
export class RequestRefused extends Error {
  override name = "RequestRefused";

  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** The order was assigned before: the `order_id` is already in use. */
export class OrderAlreadyExists extends RequestRefused {
  override name = "OrderAlreadyExists";
}

/** Every attempt ended without a response or with a 5xx. The request may have taken effect. */
export class NoAnswer extends Error {
  override name = "NoAnswer";
}

export interface Options {
  /** The largest number of attempts. */
  attempts?: number;
  /** The timeout of one attempt. */
  timeoutMs?: number;
  /** The pause after the first attempt. Each further pause is twice as long. */
  backOffMs?: number;
  /** The function that waits. Tests replace it. */
  sleep?: (milliseconds: number) => Promise<unknown>;
}

function pause(milliseconds: number): Promise<unknown> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

interface Answer<Data, Problem> {
  data?: Data;
  error?: Problem;
  response: Response;
}

/** The three operations. Each is idempotent, so the client repeats it after a lost response, a timeout or a 500. */
export class OrdersClient {
  readonly #http;
  readonly #attempts: number;
  readonly #timeoutMs: number;
  readonly #backOffMs: number;
  readonly #sleep: (milliseconds: number) => Promise<unknown>;

  constructor(
    baseUrl: string,
    { attempts = 4, timeoutMs = 5_000, backOffMs = 200, sleep = pause }: Options = {},
  ) {
    this.#http = createClient<paths>({ baseUrl });
    this.#attempts = attempts;
    this.#timeoutMs = timeoutMs;
    this.#backOffMs = backOffMs;
    this.#sleep = sleep;
  }

  /** Assigns an order to an executor. Throws OrderAlreadyExists if the order was registered before. */
  async assign(orderId: string, executorId: string, zoneId: string): Promise<void> {
    const query = { order_id: orderId, executor_id: executorId, zone_id: zoneId };
    const { error, response, attempt } = await this.#send((signal) =>
      this.#http.PUT("/orders/assign", { params: { query }, signal }),
    );
    if (response.ok) {
      return;
    }
    if (error?.message !== ALREADY_EXISTS) {
      throw refusal(response, error);
    }
    // A later attempt finds what an earlier one registered, because every `order_id` is used for one order only.
    if (attempt === 1) {
      throw new OrderAlreadyExists(response.status, error.message);
    }
  }

  /** Acquires the executor's active order and returns it, or null if there is none. */
  async acquire(executorId: string): Promise<OrderProfile | null> {
    const { data, error, response } = await this.#send((signal) =>
      this.#http.GET("/order/acquire", { params: { query: { executor_id: executorId } }, signal }),
    );
    if (data === undefined) {
      throw refusal(response, error);
    }
    return data.message === ACQUIRED ? data.order_profile : null;
  }

  /**
   * Cancels an order if it is active. Returns whether the last attempt cancelled it. After a lost response, false may
   * mean that an earlier attempt has cancelled it.
   */
  async cancel(orderId: string): Promise<boolean> {
    const { data, error, response } = await this.#send((signal) =>
      this.#http.POST("/order/cancel", { params: { query: { order_id: orderId } }, signal }),
    );
    if (data === undefined) {
      throw refusal(response, error);
    }
    return data.message === CANCELED;
  }

  async #send<Data, Problem>(
    request: (signal: AbortSignal) => Promise<Answer<Data, Problem>>,
  ): Promise<Answer<Data, Problem> & { attempt: number }> {
    let reason: unknown;
    for (let attempt = 1; attempt <= this.#attempts; attempt++) {
      if (attempt > 1) {
        // A random part keeps clients that failed at the same moment from repeating their requests at the same moment.
        await this.#sleep(this.#backOffMs * 2 ** (attempt - 2) * (1 + Math.random() / 2));
      }
      try {
        const answer = await request(AbortSignal.timeout(this.#timeoutMs));
        if (answer.response.status < 500) {
          return { ...answer, attempt };
        }
        reason = new Error(`the service answered ${answer.response.status}`);
      } catch (error) {
        reason = error;
      }
    }
    throw new NoAnswer(`no answer to ${this.#attempts} attempts`, { cause: reason });
  }
}

function refusal(response: Response, error: { message: string } | undefined): RequestRefused {
  return new RequestRefused(response.status, error?.message ?? response.statusText);
}
