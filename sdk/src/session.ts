/**
 * One client's line to its core: promises by ticket, row caches by model, and what the core tells.
 *
 * Calls made before the module is loaded wait in order and are made in the turn in which it becomes available. Nothing
 * here decides anything about the protocol.
 */

import type { Core, CoreConfig, CoreError, WasmSource } from './boundary.js';
import { Ask } from './boundary.js';
import { mint } from './credential.js';
import type { CredentialResolver } from './credential.js';
import type { AbloEncryption } from './encryption.js';
import { AbloError, errorFromCore, toAbloError } from './errors.js';
import { Listeners, reportThrown } from './report.js';
import { RowCache } from './rows.js';
import type { ModelDef } from './schema/model.js';
import { type Minted, type Owner, Shell } from './shell.js';
import type { StorageFigures } from './storage.js';
import { createCore, loadCore, onCrash } from './wasm.js';

/** A call that the core will answer through {@link Owner.settle}. */
export type Call = (core: Core, ticket: number) => void;

/** A call of {@link Core.ask}. */
export function ask(kind: Ask, number = 0, first?: string, second?: string, third?: string): Call {
  return (core, ticket) => core.ask(kind, ticket, number, first, second, third);
}

export interface Ticket {
  /** Runs inside `settle`, before anything else can change. */
  resolve(value: string | undefined): void;
  reject(error: AbloError): void;
}

/** Sees what a client is asked to do, for `ablo-wasm/undo`. */
export interface Watch {
  /** What a call gets as its core. */
  between(core: Core, ticket: Ticket): Core;
  /** Everything that this identity has stored here is being deleted. */
  purged(): void;
}

/** What a live view offers to its session. */
export interface Refreshable {
  /** Called when the view's window changed. */
  refresh(core: Core): void;
}

/** What the application supplies besides configuration. */
export interface Environment {
  /** Builds the configuration at the moment the core is made. */
  config(): CoreConfig;
  credential: CredentialResolver | null;
  fetch: typeof globalThis.fetch;
  wasm: WasmSource | undefined;
  encryption: AbloEncryption | undefined;
}

export class Session implements Owner {
  /** Undefined until the module is loaded, and again after the end. */
  core: Core | undefined;
  /** Row caches, one per model, in the order of the schema. */
  readonly models: readonly RowCache[];
  /** Told at most once per microtask which models changed. */
  readonly changes = new Listeners<[{ readonly models: readonly string[] }]>();
  /** Told at most once per microtask that the status may have changed. */
  readonly statusChanges = new Listeners<[]>();
  readonly events = new Map<string, Listeners<[payload: unknown]>>();
  /** Goes up whenever the core says that its status changed. */
  statusVersion = 0;
  /** What the browser last said of its storage. */
  figures: StorageFigures = { persisted: false };
  watch: Watch | undefined;

  #environment: Environment;
  #keys: readonly string[];
  /** Why new work is refused. */
  #ended: AbloError | undefined;
  #over = false;
  #loading: Promise<void> | undefined;
  /** Calls made before there is a core. */
  #waiting: { start: (core: Core) => void; fail: (error: AbloError) => void }[] = [];
  /** Views opened before there is a core. They outlive an attempt to load that failed. */
  #attaching: ((core: Core) => void)[] = [];
  #tickets = new Map<number, Ticket>();
  #lastTicket = 0;
  #views = new Map<number, Refreshable>();
  #dirty = new Set<number>();
  #statusDirty = false;
  #notifying = false;
  #shell: Shell;
  #unwatch: () => void;

  constructor(models: Readonly<Record<string, ModelDef>>, environment: Environment) {
    this.#environment = environment;
    this.#keys = Object.keys(models);
    this.models = Object.values(models).map((model, index) => new RowCache(this, index, model));
    this.#shell = new Shell(this, environment.encryption);
    this.#unwatch = onCrash((error) => this.end(error));
  }

  /** The core for a synchronous read: undefined before loading and after disposal. A crash throws. */
  reader(): Core | undefined {
    if (this.#ended?.code === 'client_crashed') throw this.#ended;
    return this.core;
  }

  /**
   * Makes a call and returns its promise. The call itself is made before this returns when there is a core, so that an
   * optimistic change is visible in the next statement.
   *
   * @param read turns the answer into the result while the answer is fresh
   */
  send<T>(call: Call, read: (value: string | undefined) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const ticket: Ticket = {
        resolve: (value) => {
          try {
            resolve(read(value));
          } catch (error) {
            reject(toAbloError(error));
          }
        },
        reject,
      };
      this.whenLoaded((core) => this.#issue(core, call, ticket), reject);
    });
  }

  /** Runs `start` with the core: now if it is there, otherwise after loading, in the order of these calls. */
  whenLoaded(start: (core: Core) => void, fail: (error: AbloError) => void): void {
    if (this.#ended !== undefined) fail(this.#ended);
    else if (this.core !== undefined) start(this.core);
    else {
      this.#waiting.push({ start, fail });
      this.#loading ??= this.#load();
    }
  }

  #issue(core: Core, call: Call, ticket: Ticket): void {
    const id = ++this.#lastTicket;
    this.#tickets.set(id, ticket);
    try {
      call(this.watch?.between(core, ticket) ?? core, id);
    } catch (error) {
      this.#tickets.delete(id);
      ticket.reject(toAbloError(this.translate(error)));
    }
  }

  async #load(): Promise<void> {
    try {
      await loadCore(this.#environment.wasm);
      if (this.#ended !== undefined) return;
      this.core = createCore(JSON.stringify(this.#environment.config()), this.#shell);
      this.#shell.serve(this.core);
    } catch (error) {
      this.#failWaiting(toAbloError(error));
      return;
    } finally {
      this.#loading = undefined;
    }
    // Views last: their callbacks are the application's, and what it then does must not overtake what waits.
    const waiting = this.#waiting.splice(0);
    for (const { start, fail } of waiting) {
      if (this.#ended !== undefined) fail(this.#ended);
      else start(this.core);
    }
    for (const attach of this.#attaching.splice(0)) {
      if (this.#ended !== undefined) return;
      try {
        attach(this.core);
      } catch (error) {
        reportThrown(this.translate(error));
      }
    }
  }

  #failWaiting(error: AbloError): void {
    for (const { fail } of this.#waiting.splice(0)) fail(error);
  }

  /** Runs `attach` after loading, which is not begun for it: whoever only listens causes no work. */
  onLoaded(attach: (core: Core) => void): void {
    if (this.#ended === undefined) this.#attaching.push(attach);
  }

  /** What to throw for something that a call of the core threw: its texts get their class, the rest passes. */
  translate(error: unknown): unknown {
    if (typeof error === 'string') return toAbloError(error);
    // A trap of the module: the end was announced already, with a better explanation.
    return this.#ended?.code === 'client_crashed' ? this.#ended : error;
  }

  addView(id: number, view: Refreshable): void {
    this.#views.set(id, view);
  }

  removeView(id: number): void {
    this.#views.delete(id);
  }

  /**
   * Refuses new work and tells listeners of rows nothing more, lets the core send what waits and close what it has open,
   * then ends. Never rejects: a core that cannot do that any more is no reason to fail.
   */
  async dispose(): Promise<void> {
    const { core } = this;
    const error = new AbloError('the client was disposed', { code: 'client_disposed' });
    const closed =
      core &&
      this.send(ask(Ask.Dispose), () => undefined).catch(() => undefined);
    this.#ended ??= error;
    this.#views.clear();
    if (closed !== undefined) await closed;
    this.end(error);
    // Not after a crash: that module must not be called any more.
    if (this.#ended === error) core?.free?.();
  }

  /** Ends everything: pending promises reject with `error`, later calls too. */
  end(error: AbloError): void {
    if (this.#over) return;
    this.#over = true;
    this.#ended = error;
    this.#unwatch();
    this.core = undefined;
    this.#shell.close();
    this.#views.clear();
    this.#attaching = [];
    for (const model of this.models) model.clear();
    this.#failWaiting(error);
    const tickets = [...this.#tickets.values()];
    this.#tickets.clear();
    for (const ticket of tickets) ticket.reject(error);
  }

  /** Installs or removes the application's credential function. */
  setCredential(credential: CredentialResolver | null): void {
    this.#environment.credential = credential;
    this.tell(Ask.SetCredentialSource, Number(credential !== null));
  }

  /** Tells the core, if there is one, something that it does not answer. */
  tell(kind: Ask, number: number, text?: string): void {
    if (this.core) ask(kind, number, text)(this.core, 0);
  }

  // What the core calls.

  changed(model: number, slots: Uint32Array): void {
    this.models[model]?.invalidate(slots);
    this.#dirty.add(model);
    this.#notifySoon();
  }

  views(ids: Uint32Array): void {
    for (const id of ids) {
      if (this.core === undefined) return;
      try {
        this.#views.get(id)?.refresh(this.core);
      } catch (error) {
        reportThrown(error);
      }
    }
  }

  settle(ticket: number, error: string | undefined, value: string | undefined): void {
    const entry = this.#tickets.get(ticket);
    if (entry === undefined) return;
    this.#tickets.delete(ticket);
    if (error === undefined) entry.resolve(value);
    else entry.reject(errorFromCore(error));
  }

  /** Those who listen to an event. */
  listeners(event: string): Listeners<[payload: unknown]> {
    let listeners = this.events.get(event);
    if (listeners === undefined) this.events.set(event, (listeners = new Listeners()));
    return listeners;
  }

  event(name: string, payload: string): void {
    const listeners = this.events.get(name);
    if (listeners !== undefined) listeners.call(readPayload(payload));
  }

  status(): void {
    this.statusVersion += 1;
    this.#statusDirty = true;
    this.#notifySoon();
  }

  get fetch(): typeof globalThis.fetch {
    return this.#environment.fetch;
  }

  credential(): Promise<Minted | null> {
    return mint(this.#environment.credential);
  }

  /** Listeners hear of everything that happened in one turn at once, after it. */
  #notifySoon(): void {
    if (this.#notifying) return;
    this.#notifying = true;
    queueMicrotask(() => this.#notify());
  }

  #notify(): void {
    this.#notifying = false;
    const dirty = [...this.#dirty];
    const status = this.#statusDirty;
    this.#dirty.clear();
    this.#statusDirty = false;
    if (status) this.statusChanges.call();
    if (dirty.length === 0) return;
    const models = dirty.sort((a, b) => a - b).flatMap((index) => this.#keys[index] ?? []);
    this.changes.call(Object.freeze({ models: Object.freeze(models) }));
  }
}

/** Parses an event's payload. The core's errors become real ones; an event that is only an error gets it as `error`. */
function readPayload(text: string): unknown {
  const payload = JSON.parse(text) as { error?: CoreError } | CoreError;
  if ('class' in payload) return { error: errorFromCore(payload) };
  return payload.error === undefined ? payload : { ...payload, error: errorFromCore(payload.error) };
}
