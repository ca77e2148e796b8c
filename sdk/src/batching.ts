/**
 * Entry `ablo-wasm/batching`: gathers calls that come close together into batches. It stands alone: it imports nothing,
 * knows nothing of the client, and runs wherever JavaScript does.
 *
 * One queue of batches, each open until it is full or its window ends; they leave in order, `maxInFlight` at a time.
 */

/** What is done with the items. */
export interface BatchHandlers<T, R> {
  /** Sends a batch of at least one item. What it resolves to, or rejects with, goes to every item of the batch. */
  dispatchBatch(items: T[]): Promise<R>;
  /** Sorts the items of a batch before they are dispatched, as `Array.sort` does. Without it they stay as they came. */
  compare?: ((a: T, b: T) => number) | undefined;
}

/** Limits of batches. */
export interface BatchOptions<T> {
  /** False: every item is a batch of its own. Default: true. */
  readonly enabled?: boolean | undefined;
  /** How long a batch gathers after its first item, in milliseconds. Default: 0, until the end of the microtask. */
  readonly windowMs?: number | undefined;
  /** Most items in a batch. Default: 256. */
  readonly maxBatchSize?: number | undefined;
  /** Most that the items of a batch may cost together. One item that costs more goes alone. Default: no limit. */
  readonly maxBatchCost?: number | undefined;
  /** What an item costs, in whatever unit `maxBatchCost` has. Asked once per item. Default: 0. */
  readonly costOf?: ((item: T) => number) | undefined;
  /** How many batches are under way at once; the others wait in order. Default: 1. */
  readonly maxInFlight?: number | undefined;
}

/** Gathers items into batches. */
export interface BatchScheduler<T, R> {
  /** Adds an item to the batch that is gathering. Resolves or rejects as that batch does. */
  enqueue(item: T): Promise<R>;
  /** Makes a batch of this item alone, behind everything that was enqueued before it. */
  enqueueSolo(item: T): Promise<R>;
  /**
   * Ends the window of the batch that is gathering, and resolves when everything that was enqueued so far has settled.
   * Never rejects: how a batch ended is known to those who enqueued its items.
   */
  flush(): Promise<void>;
  /**
   * Takes no more. Batches under way end as they end; items that still wait are rejected, as is whatever is enqueued
   * later, with an `Error`.
   */
  dispose(): void;
}

interface Batch<T, R> {
  readonly items: T[];
  readonly promise: Promise<R>;
  readonly settle: { resolve(result: R | PromiseLike<R>): void; reject(error: unknown): void };
  cost: number;
  /** Takes no more items: it leaves as soon as it is its turn. */
  sealed: boolean;
  /** The end of its window. Cleared with the window: a timer left over would keep a process from ending. */
  timer?: ReturnType<typeof setTimeout>;
}

/**
 * Makes a scheduler. Throws a `RangeError` that names the option when a limit makes no sense.
 *
 * @example
 * import { createBatchScheduler } from 'ablo-wasm/batching';
 *
 * const calls: string[][] = [];
 * const scheduler = createBatchScheduler({
 *   async dispatchBatch(names: string[]) {
 *     calls.push(names);
 *     return names.length;
 *   },
 * });
 * const results = await Promise.all([scheduler.enqueue('ada'), scheduler.enqueue('grace')]);
 * results; // → [2, 2]
 * calls; // → [['ada', 'grace']]
 */
export function createBatchScheduler<T, R>(
  handlers: BatchHandlers<T, R>,
  options: BatchOptions<T> = {},
): BatchScheduler<T, R> {
  const { enabled = true, windowMs = 0, maxBatchSize = 256, maxBatchCost = Infinity, maxInFlight = 1 } = options;
  const { costOf = () => 0 } = options;
  limit('windowMs', windowMs, 0);
  limit('maxBatchSize', maxBatchSize, 1);
  limit('maxBatchCost', maxBatchCost, 0);
  limit('maxInFlight', maxInFlight, 1);

  /** What has not left yet, in order. Only the last may still be open. */
  const waiting: Batch<T, R>[] = [];
  const underWay = new Set<Batch<T, R>>();
  let disposed = false;

  function open(): Batch<T, R> {
    let settle!: Batch<T, R>['settle'];
    const promise = new Promise<R>((resolve, reject) => {
      settle = { resolve, reject };
    });
    const batch: Batch<T, R> = { items: [], promise, settle, cost: 0, sealed: false };
    waiting.push(batch);
    return batch;
  }

  function seal(batch: Batch<T, R> | undefined): void {
    if (batch === undefined || batch.sealed) return;
    batch.sealed = true;
    clearTimeout(batch.timer);
    leave();
  }

  /** Sends what is complete, as far as there is room. */
  function leave(): void {
    while (underWay.size < maxInFlight && waiting[0]?.sealed) {
      const batch = waiting.shift()!;
      underWay.add(batch);
      void dispatch(batch).then(() => {
        underWay.delete(batch);
        leave();
      });
    }
  }

  async function dispatch({ items, settle }: Batch<T, R>): Promise<void> {
    try {
      if (handlers.compare) items.sort(handlers.compare);
      settle.resolve(await handlers.dispatchBatch(items));
    } catch (error) {
      settle.reject(error);
    }
  }

  function enqueue(item: T, alone: boolean): Promise<R> {
    if (disposed) return Promise.reject(gone());
    let cost: number;
    try {
      cost = alone ? 0 : costOf(item);
    } catch (error) {
      return Promise.reject(error);
    }
    let batch = waiting.at(-1);
    const fits = batch !== undefined && !batch.sealed && !alone && batch.cost + cost <= maxBatchCost;
    if (!fits) {
      seal(batch);
      batch = open();
      if (!alone) later(batch);
    }
    batch!.items.push(item);
    batch!.cost += cost;
    if (alone || batch!.items.length >= maxBatchSize) seal(batch);
    return batch!.promise;
  }

  /** Ends the window of a batch in time. */
  function later(batch: Batch<T, R>): void {
    if (windowMs > 0) batch.timer = setTimeout(() => seal(batch), windowMs);
    else queueMicrotask(() => seal(batch));
  }

  return {
    enqueue: (item) => enqueue(item, !enabled),
    enqueueSolo: (item) => enqueue(item, true),
    async flush() {
      seal(waiting.at(-1));
      await Promise.allSettled([...underWay, ...waiting].map(({ promise }) => promise));
    },
    dispose() {
      disposed = true;
      for (const { settle, timer } of waiting.splice(0)) {
        clearTimeout(timer);
        settle.reject(gone());
      }
    },
  };
}

function gone(): Error {
  return new Error('the batch scheduler has been disposed: create another one for further items');
}

function limit(name: string, value: number, min: number): void {
  if (typeof value === 'number' && value >= min) return;
  throw new RangeError(`${name} must be a number from ${min} up, got ${String(value)}`);
}
