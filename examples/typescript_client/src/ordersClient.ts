// A client of the orders service that repeats failed requests, as the contract allows.
//
//   refused connection ........................... the request was never sent
//   429 .......................................... it was not carried out; wait for as long as `Retry-After` says
//   lost, late or half a response, or a 5xx ...... in doubt: it may have taken effect
//
// A gateway in front of the service sends a 502, 503 or 504 before the service has answered, or after. So these are as
// much in doubt as a lost response.

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

/** Every attempt failed. If it is `inDoubt`, the request may have taken effect; otherwise it has not. */
export class NoAnswer extends Error {
  override name = "NoAnswer";

  constructor(
    message: string,
    readonly inDoubt: boolean,
    options: ErrorOptions,
  ) {
    super(message, options);
  }
}

export interface Options {
  /** The largest number of attempts. */
  attempts?: number;
  /** The timeout of one attempt. */
  timeoutMs?: number;
  /** The pause after the first attempt. Each further pause is twice as long. */
  backOffMs?: number;
  /** The longest wait that a response may ask for with `Retry-After`. If it asks for more, the client gives up. */
  longestWaitMs?: number;
  /** The function that waits. Tests replace it. */
  sleep?: (milliseconds: number) => Promise<unknown>;
}

// How Node.js says that there was no connection. Browsers do not say why a request failed, so there it is in doubt.
const NOT_SENT: unknown[] = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"];

function wasSent(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return !(cause instanceof Error && "code" in cause && NOT_SENT.includes(cause.code));
}

/** Returns the wait that a response asks for, or 0. `Retry-After` is a number of seconds or a date (RFC 9110 §10.2.3). */
function retryAfterMs(response: Response): number {
  const text = response.headers.get("Retry-After") ?? "";
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(waitMs) ? 0 : waitMs;
}

function pause(milliseconds: number): Promise<unknown> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

interface Answer<Data, Problem> {
  data?: Data;
  error?: Problem;
  response: Response;
}

/** The three operations. Each is idempotent, so the client repeats it after every failed attempt. */
export class OrdersClient {
  readonly #http;
  readonly #attempts: number;
  readonly #timeoutMs: number;
  readonly #backOffMs: number;
  readonly #longestWaitMs: number;
  readonly #sleep: (milliseconds: number) => Promise<unknown>;

  constructor(
    baseUrl: string,
    { attempts = 4, timeoutMs = 5_000, backOffMs = 200, longestWaitMs = 10_000, sleep = pause }: Options = {},
  ) {
    this.#http = createClient<paths>({ baseUrl });
    this.#attempts = attempts;
    this.#timeoutMs = timeoutMs;
    this.#backOffMs = backOffMs;
    this.#longestWaitMs = longestWaitMs;
    this.#sleep = sleep;
  }

  /** Assigns an order to an executor. Throws OrderAlreadyExists if the order was registered before. */
  async assign(orderId: string, executorId: string, zoneId: string): Promise<void> {
    const query = { order_id: orderId, executor_id: executorId, zone_id: zoneId };
    const { error, response, inDoubt } = await this.#send((signal) =>
      this.#http.PUT("/orders/assign", { params: { query }, signal }),
    );
    if (response.ok) {
      return;
    }
    if (error?.message !== ALREADY_EXISTS) {
      throw refusal(response, error);
    }
    // An attempt in doubt has registered the order, because every `order_id` is used for one order only.
    if (!inDoubt) {
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
   * Cancels an order if it is active. Returns whether the last attempt cancelled it. After an attempt in doubt, false
   * may mean that that attempt has cancelled it.
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
  ): Promise<Answer<Data, Problem> & { inDoubt: boolean }> {
    let inDoubt = false;
    for (let attempt = 1; ; attempt++) {
      let cause: unknown;
      let waitMs = 0;
      try {
        const answer = await request(AbortSignal.timeout(this.#timeoutMs));
        const { status } = answer.response;
        if (status < 500 && status !== 429) {
          return { ...answer, inDoubt };
        }
        inDoubt ||= status !== 429;
        cause = new Error(`the answer was ${status}`);
        waitMs = retryAfterMs(answer.response);
      } catch (error) {
        inDoubt ||= wasSent(error);
        cause = error;
      }
      if (attempt >= this.#attempts || waitMs > this.#longestWaitMs) {
        const effect = inDoubt ? "it may have taken effect" : "it has not taken effect";
        throw new NoAnswer(`the request failed ${attempt} times; ${effect}`, inDoubt, { cause });
      }
      // A random part keeps clients that failed at the same moment from repeating their requests at the same moment.
      const backOffMs = this.#backOffMs * 2 ** (attempt - 1) * (1 + Math.random() / 2);
      await this.#sleep(Math.max(backOffMs, waitMs));
    }
  }
}

function refusal(response: Response, error: { message: string } | undefined): RequestRefused {
  return new RequestRefused(response.status, error?.message ?? response.statusText);
}
