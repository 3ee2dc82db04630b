// Runs the orders service with its test controls, in a separate process.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { components } from "./controls.js";

const READY = "orders listening on ";
const START_TIMEOUT_MS = 30_000;

type Schemas = components["schemas"];

export type Fault = Schemas["Fault"];

export class OrdersServer {
  private constructor(
    readonly url: string,
    private readonly child: ChildProcess,
  ) {}

  /** Starts a server, by default on a free port, and waits until it is ready. The command is ORDERS, or `orders`. */
  static async start(port = "0"): Promise<OrdersServer> {
    const [command = "orders", ...first] = (process.env["ORDERS"] || "orders").trim().split(/\s+/);
    const options = ["--controls", "--port", port, "--database", "sqlite:///:memory:", "--no-access-log"];
    const child = spawn(command, [...first, "serve", ...options], { stdio: ["ignore", "pipe", "inherit"] });
    // The server must not outlive this process. A process that a signal ends emits no "exit", so handle signals too.
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

  /** Deletes all orders, faults and recorded requests. */
  async reset(): Promise<void> {
    await this.#control("POST", "reset");
  }

  /** Adds a fault for the next requests of an operation. */
  async addFault(fault: Fault): Promise<void> {
    await this.#control("POST", "faults", fault);
  }

  /** Stores orders, in any state. */
  async addOrders(...orders: Schemas["NewOrder"][]): Promise<void> {
    await this.#control("POST", "orders", { orders });
  }

  /** Returns the requests since the last reset. */
  async requests(): Promise<Schemas["Request"][]> {
    return ((await this.#control("GET", "requests")) as { requests: Schemas["Request"][] }).requests;
  }

  /** Returns the stored orders. */
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
