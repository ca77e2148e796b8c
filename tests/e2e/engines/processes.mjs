// Browsers and drivers as child processes: each with all of its own children in one group, which ends as one.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

/** A driver that takes longer over one command does not come back. */
export const COMMAND_MS = 120_000;

const groups = new Set();

/** Not even a test that is cut short leaves a browser behind. */
function endAll() {
  for (const group of groups) group.signal();
}
process.on('exit', endAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** A program and what it starts. */
export class Group {
  /** What it said, for when it fails. */
  said = '';
  #child;
  #gone;

  constructor(program, args, { env, stdio = ['ignore', 'pipe', 'pipe'] } = {}) {
    this.#child = spawn(program, args, { detached: true, stdio, env: { ...process.env, ...env } });
    groups.add(this);
    this.#gone = Promise.race([once(this.#child, 'exit'), once(this.#child, 'error')]).catch(() => undefined);
    this.#child.on('error', (error) => (this.said += `${program}: ${error.message}`));
    for (const stream of this.#child.stdio) stream?.on?.('data', (chunk) => (this.said += chunk));
    void this.#gone.then(() => groups.delete(this));
  }

  get hasEnded() {
    return !groups.has(this);
  }

  get stdio() {
    return this.#child.stdio;
  }

  /** Ends all of it as a crash does. */
  signal() {
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }

  async kill() {
    this.signal();
    await this.#gone;
  }

  /** Tries until it works, for as long as the program runs. */
  async until(work, ms = 60_000) {
    const end = Date.now() + ms;
    for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
      const result = await work().catch(() => undefined);
      if (result !== undefined) return result;
      if (this.hasEnded) throw new Error(`${this.#child.spawnfile} has ended: ${this.said}`);
      if (Date.now() > end) throw new Error(`${this.#child.spawnfile} is not ready after ${ms} ms: ${this.said}`);
      await pause(wait);
    }
  }
}

/** Lets one piece of work begin when the one before has ended. */
export class Queue {
  #tail = Promise.resolve();

  next(work) {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }
}
