/** What the tabs of one identity share beside the database: a lock that one of them holds, and a channel. */

import type { StorageEvents } from './boundary.js';
import { hashName } from './indexeddb.js';

export class Tabs {
  #events: StorageEvents;
  /** Gives the lock back, or stops waiting for it. */
  #letGo: (() => void) | undefined;
  #channel: Promise<BroadcastChannel | undefined> | undefined;

  constructor(events: StorageEvents) {
    this.#events = events;
  }

  lock(name: string | undefined, steal: boolean): void {
    this.#letGo?.();
    this.#letGo = undefined;
    if (name !== undefined) void this.#request(name, steal);
  }

  async #request(name: string, steal: boolean): Promise<void> {
    const waiting = new AbortController();
    let end!: () => void;
    const held = new Promise<void>((resolve) => (end = resolve));
    const letGo = (): void => {
      waiting.abort();
      end();
    };
    this.#letGo = letGo;
    const current = (): boolean => this.#letGo === letGo;
    try {
      // Who steals does not wait, and may not name a signal.
      const options = steal ? { steal } : { signal: waiting.signal };
      await navigator.locks.request(await hashName(name), options, () => {
        if (current()) this.#events.lock(true);
        return held;
      });
    } catch {
      // Stolen, unless it is ourselves who gave up.
      if (current()) this.#events.lock(false);
    }
  }

  channel(name: string | undefined): void {
    void this.#channel?.then((channel) => channel?.close());
    this.#channel = name === undefined ? undefined : this.#join(name);
  }

  async #join(name: string): Promise<BroadcastChannel | undefined> {
    try {
      const channel = new BroadcastChannel(await hashName(name));
      channel.onmessage = ({ data }) => {
        if (typeof data === 'string') this.#events.posted(data);
      };
      return channel;
    } catch {
      // Where there is none, opening the database says so.
      return undefined;
    }
  }

  post(text: string): void {
    void this.#channel?.then((channel) => channel?.postMessage(text));
  }
}
