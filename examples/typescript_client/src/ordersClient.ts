// A client of the orders service that repeats what got no answer, as the contract says it may.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

export type OrderProfile = Schemas["OrderAcquired"]["order_profile"];

// The contract's own messages: if one of them changes there, this does not compile.
const ALREADY_EXISTS: Schemas["OrderAlreadyExists"]["message"] = "AssignedOrder with provided orderId already exists";
const ACQUIRED: Schemas["OrderAcquired"]["message"] = "Successfully acquired";
const CANCELED: Schemas["OrderCanceled"]["message"] = "Successfully canceled";

/** The service refused a request; sending it again would change nothing. */
export class RequestRefused extends Error {
  override name = "RequestRefused";

  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** The order was assigned before, by somebody else or with an `order_id` that was used already. */
export class OrderAlreadyExists extends RequestRefused {
  override name = "OrderAlreadyExists";
}

/** Every attempt ended without an answer, or with a 5xx. Whether the request took effect is not known. */
export class NoAnswer extends Error {
  override name = "NoAnswer";
}

export interface Options {
  /** How often a request is sent at most. */
  attempts?: number;
  /** How long one attempt may take. */
  timeoutMs?: number;
  /** The pause after the first attempt; each further one is twice as long. */
  backOffMs?: number;
  /** How to pause. Tests have better things to do than to wait. */
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

/** The three operations. Each is idempotent, so it is sent again after a lost answer, a timeout or a 500. */
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

  /** Registers an order for an executor, once. Throws OrderAlreadyExists if it was registered before. */
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
    // An earlier attempt may have registered it. Every `order_id` is used for one order only, so nobody else has.
    if (attempt === 1) {
      throw new OrderAlreadyExists(response.status, error.message);
    }
  }

  /** Returns the executor's active order, which is acquired from now on, or null if there is none. */
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
   * Makes sure that an order is not active. Returns whether this answer says that it was until now: after a lost
   * answer, false may mean that the attempt before cancelled it.
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
        // Chance keeps clients that lost their answers at the same moment from coming back at the same moment.
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
