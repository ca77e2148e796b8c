/**
 * The browser in the hands of the core: sockets, timers, requests, storage, events of the page. Performs what the core
 * asks for and tells it what happened; decides nothing.
 */

import { Ask, type Core, type Host, Perform, type DatabaseIndex, type StoreChange, type StoreFailure } from './boundary.js';
import type { Bytes, StoreIndex, StoreRecords } from './boundary.js';
import type { AbloEncryption } from './encryption.js';
import { Kind } from './indexeddb.js';
import { reportThrown } from './report.js';
import { BrowserStorage } from './store.js';

/** How a socket ends that could not even be made (RFC 6455, 7.1.5). */
const NEVER_OPENED = 1006;

/** A token, and until when it is good (ISO 8601) where that is known. */
export interface Minted {
  readonly token: string;
  readonly expiresAt?: string | undefined;
}

/** What the rest of the SDK does for the core. */
export interface Owner {
  changed(model: number, slots: Uint32Array): void;
  views(ids: Uint32Array): void;
  settle(ticket: number, error: string | undefined, value: string | undefined): void;
  event(name: string, payload: string): void;
  status(): void;
  credential(): Promise<Minted | null>;
  readonly fetch: typeof globalThis.fetch;
}

export class Shell implements Host {
  #owner: Owner;
  #core: Core | undefined;
  #storage: BrowserStorage;
  #sockets = new Map<number, WebSocket>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Of the write that comes next. */
  #changes: StoreChange[] = [];
  #closing = new AbortController();

  constructor(owner: Owner, encryption: AbloEncryption | undefined) {
    this.#owner = owner;
    this.#storage = new BrowserStorage(
      {
        storeClosed: (database) => this.#tell(Ask.StoreClosed, database),
        lock: (held) => this.#tell(Ask.Lock, Number(held)),
        posted: (text) => this.#tell(Ask.Posted, 0, 0, text),
      },
      encryption,
    );
  }

  /** Serves this core from now on. */
  serve(core: Core): void {
    this.#core = core;
    const { signal } = this.#closing;
    const listen = (target: EventTarget | undefined, name: string, listener: (event: Event) => void): void =>
      target?.addEventListener?.(name, listener, { signal });
    // Where there is no page (a server, a worker without a document), nothing is listened to.
    const { document, navigator } = globalThis;
    const network = (): void => this.#tell(navigator?.onLine === false ? Ask.Offline : Ask.Online, 0);
    // Nobody says again to a page that comes back what it has missed.
    const wake = (kind: Ask): void => {
      network();
      this.#tell(kind, 0);
    };
    listen(globalThis, 'online', network);
    listen(globalThis, 'offline', () => this.#tell(Ask.Offline, 0));
    listen(globalThis, 'ablo:wake', () => wake(Ask.Wake));
    listen(globalThis, 'pageshow', () => wake(Ask.Wake));
    listen(globalThis, 'pagehide', () => this.#tell(Ask.Leave, 0));
    listen(document, 'resume', () => wake(Ask.Wake));
    listen(document, 'visibilitychange', () => {
      if (document.visibilityState === 'visible') wake(Ask.Visible);
    });
    if (navigator?.onLine === false) this.#tell(Ask.Offline, 0);
  }

  /** Gives everything back. A core that has crashed cannot ask for that, and other tabs wait for it. */
  close(): void {
    this.#core = undefined;
    this.#closing.abort();
    clearTimeout(this.#timer);
    for (const [id, socket] of this.#sockets) this.#leave(id, socket);
    this.#storage.close();
    this.#storage.lock(undefined, false);
    this.#storage.channel(undefined);
  }

  changed(model: number, slots: Uint32Array): void {
    this.#owner.changed(model, slots);
  }

  views(ids: Uint32Array): void {
    this.#owner.views(ids);
  }

  put(store: number, key: string, value: Uint8Array): void {
    this.#changes.push([store as StoreIndex, key, value as Bytes]);
  }

  perform(kind: Perform, id: number, number: number, first?: string, second?: string, third?: string): void {
    try {
      this.#perform(kind, id, number, first, second, third);
    } catch (error) {
      reportThrown(error);
    }
  }

  #perform(kind: Perform, id: number, number: number, first?: string, second?: string, third?: string): void {
    const owner = this.#owner;
    const storage = this.#storage;
    const socket = this.#sockets.get(id);
    const database = number as DatabaseIndex;
    switch (kind) {
      case Perform.Settle:
        return owner.settle(id, first, second);
      case Perform.Event:
        return owner.event(first!, second!);
      case Perform.Status:
        return owner.status();
      case Perform.Turn:
        return queueMicrotask(() => this.#tell(Ask.Turn, 0));
      case Perform.Timer:
        clearTimeout(this.#timer);
        if (number > 0) this.#timer = setTimeout(() => this.#tell(Ask.Timeout, 0), number);
        return;
      case Perform.Credential:
        return this.#answer(owner.credential(), id, Ask.CredentialFailed, (given) =>
          this.#tell(Ask.Credential, id, 0, given?.token, given?.expiresAt),
        );
      case Perform.Request:
        return this.#answer(this.#request(first!, second, third, number), id, Ask.RequestFailed, ([response, body]) => {
          const header = (name: string): string | undefined => response.headers.get(name) ?? undefined;
          const said = ['x-request-id', 'X-Auth-Failure', 'Retry-After'].map(header);
          this.#core?.give('', new Uint8Array(body));
          this.#tell(Ask.Response, id, response.status, ...said);
        });
      case Perform.OpenSocket:
        return this.#open(id, first!, second!.split(' '));
      case Perform.Send:
        return socket?.send(first!);
      case Perform.CloseSocket:
        return socket && this.#leave(id, socket, number, first);
      case Perform.OpenStore:
        return this.#stored(id, storage.open(database, first!));
      case Perform.ReadStore:
        return this.#stored(id, storage.read((number >> 1) as DatabaseIndex, (number & 1) as StoreIndex, first!, second!));
      case Perform.Remove:
        this.#changes.push([number as StoreIndex, first!, second!]);
        return;
      case Perform.WriteStore:
        return this.#stored(id, storage.write((number >> 1) as DatabaseIndex, this.#changes.splice(0), number % 2 > 0));
      case Perform.DeleteStore:
        return this.#stored(id, storage.delete(database));
      case Perform.CloseStores:
        return storage.close();
      case Perform.Lock:
        return storage.lock(first, number > 0);
      case Perform.Channel:
        return storage.channel(first);
      case Perform.Post:
        return storage.post(first!);
    }
  }

  #open(id: number, url: string, protocols: string[]): void {
    let socket: WebSocket;
    try {
      socket = new WebSocket(url, protocols);
    } catch {
      return this.#tell(Ask.SocketClosed, id, NEVER_OPENED);
    }
    this.#sockets.set(id, socket);
    socket.onopen = () => this.#tell(Ask.SocketOpened, id);
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
      // Binary frames are not part of the protocol.
      if (typeof data === 'string') this.#tell(Ask.SocketMessage, id, 0, data);
    };
    socket.onclose = ({ code }) => {
      this.#sockets.delete(id);
      this.#tell(Ask.SocketClosed, id, code);
    };
  }

  /** Closes a socket and hears no more of it. */
  #leave(id: number, socket: WebSocket, code?: number, reason?: string): void {
    this.#sockets.delete(id);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code, reason);
  }

  /** `line` is method, cache mode and address. */
  async #request(
    line: string,
    bearer: string | undefined,
    body: string | undefined,
    timeoutMs: number,
  ): Promise<[Response, ArrayBuffer]> {
    const [method, cache, url] = line.split(' ') as [string, RequestCache, string];
    const headers: Record<string, string> = { Accept: 'application/json' };
    if (bearer !== undefined) headers['Authorization'] = `Bearer ${bearer}`;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await this.#owner.fetch(url, {
      ...{ method, headers, body: body ?? null, cache, signal },
      // A claim that a page gives back when it goes away.
      keepalive: method === 'DELETE',
    });
    return [response, await response.arrayBuffer()];
  }

  #stored(id: number, records: Promise<StoreRecords>): void {
    this.#answer(records, id, Ask.StoreFailed, (found) => {
      for (let at = 0; at < found.length; at += 2) this.#core?.give(found[at] as string, found[at + 1] as Bytes);
      this.#tell(Ask.Stored, id);
    });
  }

  /** Passes on what a promise comes to. Storage says with a number what kind of failure it is. */
  #answer<T>(promise: Promise<T>, id: number, failed: Ask, take: (value: T) => void): void {
    promise.then(take, (error?: Partial<StoreFailure>) =>
      this.#tell(failed, id, error?.kind ?? Kind.Unknown, error?.message ?? String(error)),
    );
  }

  #tell(kind: Ask, id: number, count = 0, first?: string, second?: string, third?: string): void {
    this.#core?.ask(kind, count, id, first, second, third);
  }
}
