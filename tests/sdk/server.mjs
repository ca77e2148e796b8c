/** `ablo-server` for tests of the SDK. `cargo xtask test` sets ABLO_SERVER. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { ROOT, directory } from './bundle.mjs';

const COMMAND = process.env.ABLO_SERVER ?? join(ROOT, 'target/debug/ablo-server');
const HOST = '127.0.0.1';

/** A running server. It ends with the test. */
export class Server {
  port = 0;
  #args;
  #process;

  /** `files` are JSON values by the option that names their file: `{ keys: [...] }`. */
  static async start(t, files, args = []) {
    const server = new this();
    server.#args = ['--log', 'warn', ...args];
    for (const [option, value] of Object.entries(files)) {
      const file = join(directory, `${option}.json`);
      await writeFile(file, JSON.stringify(value));
      server.#args.push(`--${option}`, file);
    }
    await server.start();
    t.after(() => server.stop('SIGKILL'));
    return server;
  }

  /** Starts it, again on the same port. */
  async start() {
    const args = ['--listen', `${HOST}:${this.port}`, ...this.#args];
    const child = spawn(COMMAND, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#process = child;
    for await (const line of createInterface({ input: child.stdout })) {
      this.port = Number(new URL(line.split(' ')[1]).port);
      return;
    }
    throw new Error(`${COMMAND} did not start: build it with \`cargo build -p ablo-server\``);
  }

  async stop(signal = 'SIGTERM') {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  get url() {
    return `http://${HOST}:${this.port}`;
  }

  /** Makes it misbehave (`server/src/faults`); it needs `--faults`. How often each address was asked for. */
  async faults(change) {
    const response = await fetch(`${this.url}/faults`, { method: 'POST', body: JSON.stringify(change) });
    const answer = await response.json();
    if (!response.ok) throw new Error(JSON.stringify(answer));
    return answer.requests;
  }
}
