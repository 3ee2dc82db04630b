// The orders service for tests, in a process of its own, with its test controls.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { components } from "./controls.js";

const READY = "orders listening on ";
const START_TIMEOUT_MS = 30_000;

type Schemas = components["schemas"];

export class OrdersServer {
  private constructor(
    readonly url: string,
    private readonly child: ChildProcess,
  ) {}

  /** Starts the command in ORDERS, or `orders`, on a free port, and waits until it is ready. */
  static async start(): Promise<OrdersServer> {
    const [command = "orders", ...first] = (process.env["ORDERS"] || "orders").trim().split(/\s+/);
    const options = ["--controls", "--port", "0", "--database", "sqlite:///:memory:", "--no-access-log"];
    const child = spawn(command, [...first, "serve", ...options], { stdio: ["ignore", "pipe", "inherit"] });
    // However this process ends, the server does not outlive it. A process that a signal ends emits no "exit".
    process.once("exit", () => child.kill());
    for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => {
        child.kill();
        process.kill(process.pid, signal);
      });
    }
    const timer = setTimeout(() => child.kill(), START_TIMEOUT_MS);
    const url = await new Promise<string>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        reject(new Error(`the orders service ended before it was ready: ${signal ?? `exit code ${code}`}`));
      });
      createInterface(child.stdout).on("line", (line) => {
        if (line.startsWith(READY)) {
          resolve(line.slice(READY.length));
        }
      });
    }).finally(() => clearTimeout(timer));
    return new OrdersServer(url, child);
  }

  /** Stops the server and waits for its end. */
  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill();
      await once(this.child, "exit");
    }
  }

  /** Forgets all orders, faults and requests. */
  async reset(): Promise<void> {
    await this.#control("POST", "reset");
  }

  /** Gives the next requests of an operation a fault. */
  async addFault(fault: Schemas["Fault"]): Promise<void> {
    await this.#control("POST", "faults", fault);
  }

  /** Returns the requests of the operations since the last reset. */
  async requests(): Promise<Schemas["Request"][]> {
    return ((await this.#control("GET", "requests")) as { requests: Schemas["Request"][] }).requests;
  }

  /** Returns the orders as they are stored. */
  async orders(): Promise<Schemas["Order"][]> {
    return ((await this.#control("GET", "orders")) as { orders: Schemas["Order"][] }).orders;
  }

  async #control(method: string, name: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${this.url}/_controls/${name}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) {
      throw new Error(`${method} ${name}: ${response.status} ${await response.text()}`);
    }
    return response.json();
  }
}
