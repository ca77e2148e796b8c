/** What becomes of trouble that has no caller to go to. */

import { unfit } from './values.js';

/** Refuses a listener that cannot be called, while it is still known who gave it. */
export function checkListener(listener: unknown): void {
  if (typeof listener !== 'function')
    throw unfit('listener', 'a function', listener);
}

/** Reports what an application's listener threw, as the browser reports an uncaught error. */
export function reportThrown(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else console.error(error);
}

/** Calls every listener, from a copy of the list: one that throws, or that unsubscribes, does not disturb the rest. */
export function callAll<A extends unknown[]>(listeners: Iterable<(...args: A) => void>, ...args: A): void {
  for (const listener of [...listeners]) {
    try {
      listener(...args);
    } catch (error) {
      reportThrown(error);
    }
  }
}

/** A list of listeners. The same function given twice is called twice. */
export class Listeners<A extends unknown[]> {
  #entries = new Set<(...args: A) => void>();

  /** Adds a listener. The result removes it again, and does nothing the second time. */
  add(listener: (...args: A) => void): () => void {
    checkListener(listener);
    const entry = (...args: A): void => listener(...args);
    this.#entries.add(entry);
    return () => void this.#entries.delete(entry);
  }

  call(...args: A): void {
    callAll(this.#entries, ...args);
  }
}
