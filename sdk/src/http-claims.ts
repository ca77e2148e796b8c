/**
 * Claims of the stateless client (protocol 5.3, 5.4): taken, waited for, told and given back.
 *
 * A claim on a whole row goes to the row's address. One on a part goes to `/v1/claims`, because the row's address has no
 * words for parts; so does one that waits, because there it has an id of this client's making: it can be asked for again
 * when the answer is lost, and given back when nobody waits for it any more.
 */

import type { AbloError } from './errors.js';
import type { Answer, Json, Line } from './http-request.js';
import type { Claim, ClaimHandle, ModelClaim, ModelTarget } from './http-types.js';
import type { Kit } from './stateless.js';

/** Options of a wait. */
export const WAIT_KEYS = ['pollInterval', 'signal', 'waitTimeoutMs'];
/** How long giving a claim back may hold up what is more important, in milliseconds. */
const RELEASE_MS = 5000;

interface Held {
  readonly handle: ClaimHandle;
  /** The watermark for the next write of the row: its own writes are none that it has not seen. */
  readAt: number | undefined;
}

/** What is told of a granted claim. */
export interface Granted {
  readonly id: string;
  readonly waited: boolean;
}

/** Claims of one client. */
export class Claims {
  readonly #line: Line;
  readonly #kit: Kit;
  readonly #held = new Map<string, Held>();

  constructor(line: Line, kit: Kit) {
    this.#line = line;
    this.#kit = kit;
  }

  /** Takes a claim, and waits for it if `wait` says how. */
  async take(target: ModelTarget, options: Json, wait: Json): Promise<Granted> {
    const { pollInterval, signal, waitTimeoutMs } = this.#checkWait(wait);
    this.#kit.checkClaim(options);
    this.#kit.milliseconds(options['ttl']);
    const id = `int_${this.#kit.newId()}`;
    const isNamed = pollInterval !== undefined || [target.field, target.path, target.range].some((part) => part !== undefined);
    const answer = await this.#ended(signal, () => this.#ask(target, options, isNamed ? id : undefined, signal)).catch(
      async (error: unknown) => {
        if (isNamed && signal?.aborted) await this.giveBack(id);
        throw error;
      },
    );
    const claim = asObject(answer.body['claim']);
    const known = text(claim['id']) ?? text(answer.body['id']) ?? text(answer.body['claimId']) ?? id;
    if (answer.status !== 202 && answer.body['status'] !== 'queued') return { id: known, waited: false };

    const position = Number(answer.body['position'] ?? 0);
    const depth = options['maxQueueDepth'] as number | undefined;
    if (depth !== undefined && depth <= position) {
      await this.giveBack(known);
      throw this.#error('queue_too_deep', `${name(target)} is held, and ${position} wait for it already`, known, position);
    }
    if (pollInterval === undefined) {
      const remedy = 'it keeps its place in line; give pollInterval to wait, or claim.release to give it back';
      throw this.#error('claim_queued', `${name(target)} is held by somebody else: ${remedy}`, known, position);
    }
    try {
      await this.#ended(signal, () => this.#wait(target, known, pollInterval, waitTimeoutMs, signal));
    } catch (error) {
      // Whoever does not wait any more must not be granted what nobody uses.
      await this.giveBack(known);
      throw error;
    }
    return { id: known, waited: true };
  }

  /** The handle of a granted claim. */
  handle<T>(granted: Granted, target: ModelTarget, options: Json, row?: { data: T; stamp: number }): ClaimHandle<T> {
    const { id } = granted;
    const release = async (): Promise<void> => {
      if (!this.#held.has(id)) return;
      await this.release(id);
      this.#held.delete(id);
    };
    const description = text(options['description']);
    const handle: ClaimHandle<T> = Object.freeze({
      object: 'claim' as const,
      claimId: id,
      waited: granted.waited,
      target: Object.freeze(target),
      reason: text(options['reason']) ?? 'editing',
      ...(description === undefined ? {} : { description }),
      ...(row === undefined ? {} : { readAt: row.stamp, data: row.data }),
      release,
      revoke: () => void release().catch(() => undefined),
      [Symbol.asyncDispose]: release,
    });
    this.#held.set(id, { handle, readAt: row?.stamp });
    return handle;
  }

  /** Whether this client holds the claim of that id. */
  isOwn(id: string): boolean {
    return this.#held.has(id);
  }

  /** The watermark with which a write of the claimed row is checked. */
  readAt(handle: ClaimHandle): number | undefined {
    return this.#held.get(handle.claimId)?.readAt ?? handle.readAt;
  }

  /** A write under a claim has been accepted. */
  advance(id: string, lastSyncId: number | undefined): void {
    const held = this.#held.get(id);
    if (held?.readAt !== undefined && lastSyncId !== undefined) held.readAt = Math.max(held.readAt, lastSyncId);
  }

  /** Gives back one claim, or place in line. */
  async release(id: string): Promise<void> {
    await this.#line.send({ method: 'DELETE', path: ['v1', 'claims', id] });
  }

  /** As {@link release}, but it neither fails nor takes long: what cannot be given back ends with its time. */
  async giveBack(id: string): Promise<void> {
    const over = new AbortController();
    await Promise.race([this.release(id), this.#line.pause(RELEASE_MS, over.signal)]).catch(() => undefined);
    over.abort();
  }

  /** Gives back what the participant holds of a row. */
  async releaseRow(model: string, row: string): Promise<void> {
    await this.#line.send({ method: 'DELETE', path: ['v1', 'models', model, row, 'claim'] });
    for (const [id, { handle }] of this.#held) {
      if (handle.target.id === row && handle.target.model === model) this.#held.delete(id);
    }
  }

  /** Gives everything back, as {@link giveBack}. */
  async releaseAll(): Promise<void> {
    const held = [...this.#held.keys()];
    this.#held.clear();
    await Promise.all(held.map((id) => this.giveBack(id)));
  }

  async list(target: Json, signal?: AbortSignal): Promise<{ claims: readonly ModelClaim[]; queue: readonly ModelClaim[] }> {
    const query = ['model', 'id', 'field'].flatMap((key): [string, string][] => {
      const value = target[key];
      return value === undefined ? [] : [[key, this.#kit.checkId(value, key)]];
    });
    const { body } = await this.#line.send({ method: 'GET', path: ['v1', 'claims'], query, signal });
    const of = (value: unknown): readonly ModelClaim[] => Object.freeze(Array.isArray(value) ? (value as ModelClaim[]) : []);
    return { claims: of(body['claims']), queue: of(body['queue']) };
  }

  /** The claims of others on a row. */
  async others(target: Json, signal?: AbortSignal): Promise<readonly ModelClaim[]> {
    return (await this.list(target, signal)).claims.filter(({ id }) => !this.isOwn(id));
  }

  /** Waits until nobody else holds a row. */
  async waitFor(target: Json, wait: Json): Promise<void> {
    const { timeout, ...rest } = wait;
    const { pollInterval, signal, waitTimeoutMs } = this.#checkWait({ ...rest, waitTimeoutMs: timeout }, true);
    const begun = Date.now();
    await this.#ended(signal, async () => {
      for (;;) {
        const claims = await this.others(target, signal);
        if (claims.length === 0) return;
        const left = waitTimeoutMs === undefined ? Infinity : begun + waitTimeoutMs - Date.now();
        if (left <= 0) throw this.claimed('model_claimed_timeout', `${name(target)} is still held`, claims);
        await this.#line.pause(Math.min(pollInterval!, left), signal);
      }
    });
  }

  /** An error about claims that are in the way. */
  claimed(code: string, message: string, claims: readonly unknown[]): AbloError {
    const retryable = code !== 'model_claimed';
    return this.#kit.errorFromCore({ class: 'AbloClaimedError', code, message, retryable, details: { claims } });
  }

  async #wait(target: ModelTarget, id: string, every: number, limit: number | undefined, signal?: AbortSignal): Promise<void> {
    const begun = Date.now();
    for (;;) {
      const left = limit === undefined ? Infinity : begun + limit - Date.now();
      if (left <= 0) throw this.#error('grant_timeout', `${name(target)} is still held after ${limit} ms`, id);
      await this.#line.pause(Math.min(every, left), signal);
      const { claims, queue } = await this.list({ model: target.model, id: target.id }, signal);
      if (claims.some((claim) => claim.id === id)) return;
      if (!queue.some((claim) => claim.id === id)) {
        throw this.#error('claim_lost', `the place in line for ${name(target)} has run out: give a longer ttl`, id);
      }
    }
  }

  #ask(target: ModelTarget, options: Json, claimId: string | undefined, signal?: AbortSignal): Promise<Answer> {
    const { model, id, field, path, range, meta: own } = target;
    const { reason, ttl, description, meta = own, queue = true } = options;
    const about = description === undefined ? meta : { ...(meta as object | undefined), description };
    const body = { action: reason ?? 'editing', ttl, description, meta: about, queue };
    if (claimId === undefined) {
      // Whoever lost the answer cannot know the claim's id, so this is not repeated.
      const address = ['v1', 'models', model, id, 'claim'];
      return this.#line.send({ method: 'POST', path: address, body, signal });
    }
    const named = { ...body, claimId, target: { model, id, field, fieldOnly: field && true, path, range } };
    return this.#line.send({ method: 'POST', path: ['v1', 'claims'], body: named, repeatable: true, signal });
  }

  /** Errors of a wait that its signal has ended say so. */
  async #ended<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const { AbloConnectionError } = this.#kit;
    const aborted = (): AbloError =>
      new AbloConnectionError('the wait for a claim was aborted', { code: 'claim_wait_aborted', cause: signal?.reason });
    if (signal?.aborted) throw aborted();
    try {
      return await work();
    } catch (error) {
      throw signal?.aborted ? aborted() : error;
    }
  }

  #checkWait(wait: Json, needed = false): { pollInterval?: number; signal?: AbortSignal; waitTimeoutMs?: number } {
    const { pollInterval, signal, waitTimeoutMs } = wait;
    if (pollInterval === undefined && (needed || signal !== undefined || waitTimeoutMs !== undefined)) {
      const why = 'without a socket, waiting means asking: give pollInterval, in milliseconds';
      throw this.#wrong('claim_wait_poll_interval_required', why, 'pollInterval');
    }
    for (const [param, value] of Object.entries({ pollInterval, waitTimeoutMs })) {
      if (value === undefined || (typeof value === 'number' && value > 0 && value < 2 ** 31)) continue;
      const message = `${param} must be a positive number of milliseconds, got ${this.#kit.show(value)}`;
      throw this.#wrong('invalid_options', message, param);
    }
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw this.#wrong('invalid_options', `signal must be an AbortSignal, got ${this.#kit.show(signal)}`, 'signal');
    }
    return wait as { pollInterval?: number; signal?: AbortSignal; waitTimeoutMs?: number };
  }

  #wrong(code: string, message: string, param: string): AbloError {
    return new this.#kit.AbloValidationError(message, { code, param });
  }

  #error(code: string, message: string, claimId: string, position?: number): AbloError {
    const details = position === undefined ? { claimId } : { claimId, position };
    return this.#kit.errorFromCore({ class: 'AbloClaimedError', code, message, retryable: code !== 'claim_lost', details });
  }
}

/** A claim as the public interface has it, from one as HTTP has it. */
export function toClaim(claim: ModelClaim): Claim {
  const { id, status, target, reason, description, actor, participantKind, expiresAt, position } = claim;
  const { action, heldBy, createdAt } = claim as { action?: string; heldBy?: string; createdAt?: number };
  const { model: type, ...where } = target;
  return Object.freeze({
    object: 'claim',
    id,
    status: status ?? 'active',
    target: Object.freeze({ type, ...where }),
    reason: reason ?? action ?? 'editing',
    ...(description === undefined ? {} : { description }),
    heldBy: heldBy ?? actor,
    participantKind,
    ...(createdAt === undefined ? {} : { createdAt }),
    expiresAt,
    ...(position === undefined ? {} : { position }),
  });
}

function name(target: Json | ModelTarget): string {
  return `${String(target.model)} "${String(target.id)}"`;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function asObject(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}
