/** Who is there, who holds what, and what this client holds: `ablo.presence`, `ablo.claims`, `ablo.<model>.claim`. */

import { checkClaim, milliseconds } from './claim-options.js';
import { Ask, type Core, type CoreClaim, type CoreCoordination, Text } from './boundary.js';
import type {
  Activity,
  Claim,
  ClaimClient,
  ClaimHandle,
  ClaimLost,
  ClaimOptions,
  EntityRef,
  ModelClaim,
  ModelTarget,
  Peer,
  PresenceStream,
  PresenceTarget,
} from './coordination-types.js';
import { AbloClaimedError, AbloConnectionError, invalid } from './errors.js';
import { Listeners } from './report.js';
import type { ModelDef } from './schema/model.js';
import { ask, type Session } from './session.js';
import { checkJson, checkObject, newId } from './values.js';

/** A claim as it is announced, or as presence tells it (protocol.md 7.7, 11.7). */
interface WireClaim extends Omit<ModelTarget, 'model' | 'id'> {
  readonly claimId: string;
  readonly entityType: string;
  readonly entityId: string;
  readonly action?: string;
  readonly declaredAt?: number;
  readonly expiresAt?: number;
  readonly estimatedMs?: number;
  readonly fieldOnly?: boolean;
  readonly status?: string;
}

/** A frame about a participant (protocol.md 12.2). */
interface PeerFrame {
  readonly userId: string;
  readonly status: string;
  readonly syncGroups?: readonly string[];
  readonly activity?: Activity;
  readonly participantKind?: Peer['participantKind'] | 'human';
  readonly isAgent?: boolean;
  readonly timestamp?: number;
  readonly activeClaims?: readonly WireClaim[];
  readonly label?: string;
}

/** How long an own lease is taken to last that says nothing: protocol.md 11.5. */
const LEASE_MS = 90_000;
const IDLE: Activity = Object.freeze({ entityType: 'Unknown', entityId: '', action: 'idle' });

/** What the core knows, in the words of the interface. */
interface Known {
  readonly peers: readonly Peer[];
  /** Claims of others that are held. */
  readonly held: readonly Claim[];
  readonly queued: readonly Claim[];
  /** Own claims that are held. */
  readonly own: readonly Claim[];
  readonly kind: Peer['participantKind'];
}

const NOBODY: Known = { peers: [], held: [], queued: [], own: [], kind: 'user' };

export class Coordination {
  readonly changes = new Listeners<[]>();
  readonly lost = new Listeners<[ClaimLost]>();
  readonly rejected = new Listeners<[ClaimLost]>();
  #session: Session;
  #models: Readonly<Record<string, ModelDef>>;
  #participant: () => string | null;
  #activity = IDLE;
  #known = NOBODY;
  #stale = true;
  #telling = false;
  #handles = new Map<string, AbortController>();
  /** `ablo.presence`. */
  readonly presence: PresenceStream;
  /** `ablo.claims`. */
  readonly claims: ClaimClient;

  constructor(session: Session, models: Readonly<Record<string, ModelDef>>, participant: () => string | null) {
    this.#session = session;
    this.#models = models;
    this.#participant = participant;
    this.presence = this.#presence();
    this.claims = this.#client();
    session.listeners('presence:changed').add(() => this.#change());
    session.listeners('frame').add((frame) => {
      const { type, payload } = frame as { readonly type: string; readonly payload: unknown };
      session.events.get(type.replace('_', ':'))?.call(payload);
    });
    session.listeners('claim:lost').add((payload) => {
      const lost = payload as ClaimLost;
      this.#handles.get(lost.claimId)?.abort(lost.error);
      this.#handles.delete(lost.claimId);
      this.lost.call(Object.freeze(lost));
    });
  }

  get known(): Known {
    const core = this.#session.reader();
    if (core !== undefined && this.#stale) {
      this.#stale = false;
      this.#known = this.#read(core);
    }
    return core === undefined ? NOBODY : this.#known;
  }

  /** Listeners hear of what happened in one turn at once, after it. */
  #change(): void {
    this.#stale = true;
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      this.changes.call();
    });
  }

  #read(core: Core): Known {
    const { peers, lines, own, kind } = readCoordination(core);
    const list = (peers as PeerFrame[]).map(toPeer);
    const me = this.#participant() ?? '';
    return {
      peers: Object.freeze(list),
      held: Object.freeze(list.flatMap((peer) => peer.activeClaims ?? [])),
      queued: (lines as { queue: Claim[] }[]).flatMap(({ queue }) => queue.map((claim) => Object.freeze(claim))),
      own: own.flatMap(({ held, claim }) => (held && 'entityId' in claim ? [toClaim(claim as WireClaim, me, kind)] : [])),
      kind,
    };
  }

  /** Whether a claim stands in the way of such a target. A model goes by its key, its typename, or its name on the wire. */
  isOn({ target }: Claim, { model, id, field }: Partial<ModelTarget>): boolean {
    const names = [model, this.#models[model ?? '']?.typename].map((name) => name?.toLowerCase());
    const isOnField = !target.fieldOnly || (field ?? target.field) === target.field;
    return (id ?? target.id) === target.id && isOnField && (!model || names.includes(target.type.toLowerCase()));
  }

  state(target: Partial<ModelTarget>): Claim | null {
    const { own, held } = this.known;
    return [...own, ...held].find((claim) => this.isOn(claim, target)) ?? null;
  }

  queue(target: Partial<ModelTarget>): readonly Claim[] {
    return this.known.queued.filter((claim) => this.isOn(claim, target));
  }

  reorder(type: string, id: string, order: readonly Claim[]): void {
    const payload = { entityType: type, entityId: id, order: order.map(({ heldBy, id: claimId }) => ({ heldBy, claimId })) };
    this.broadcast('claim_reorder', payload);
  }

  broadcast(type: string, payload: unknown): void {
    checkJson(payload, 'payload', 'invalid_options');
    this.#session.whenLoaded((core) => core.ask(Ask.Broadcast, 0, 0, type, JSON.stringify(payload), undefined), nothing);
  }

  release(claimId: string): void {
    this.#handles.delete(claimId);
    this.#session.tell(Ask.Release, 0, claimId);
  }

  releaseRow(model: string, id: string): void {
    for (const claim of this.known.own) if (this.isOn(claim, { model, id })) this.release(claim.id);
  }

  /** Announces a claim; the promise settles with what becomes of it. */
  begin<T>(
    at: { readonly index: number; readonly type: string; readonly target: ModelTarget; readonly create?: boolean },
    options: ClaimOptions,
    data: () => T | undefined,
  ): { readonly handle: ClaimHandle<T>; readonly granted: Promise<void> } {
    const { reason, description, ttl, queue, maxQueueDepth, waitTimeoutMs, signal } = checkClaim(options);
    const { id, field, path, range, meta } = at.target;
    const claimId = newId();
    const action = reason ?? (at.create ? 'creating' : 'editing');
    const payload = JSON.stringify({
      ...{ claimId, entityType: at.type, entityId: id, action, field, fieldOnly: field && true, path, range, queue },
      meta: description === undefined ? meta : { ...meta, description },
      estimatedMs: milliseconds(ttl),
    });
    const lost = new AbortController();
    this.#handles.set(claimId, lost);
    const revoke = (): void => this.release(claimId);
    const release = async (): Promise<void> => revoke();
    let granted: Partial<CoreClaim> = {};
    const handle: ClaimHandle<T> = Object.freeze({
      object: 'claim' as const,
      claimId,
      get waited() {
        return granted.waited ?? false;
      },
      get readAt() {
        return granted.readAt!;
      },
      get data() {
        return data()!;
      },
      target: Object.freeze({ ...at.target }),
      reason: action,
      ...defined({ description }),
      signal: lost.signal,
      release,
      revoke,
      [Symbol.asyncDispose]: release,
    });
    const limits = JSON.stringify({ maxQueueDepth, waitTimeoutMs, create: at.create });
    signal?.addEventListener('abort', revoke);
    const done = this.#session
      .send(ask(Ask.Claim, at.index, payload, limits), () => {
        // It may have been lost while the row was read.
        lost.signal.throwIfAborted();
        const { own } = readCoordination(this.#session.core!);
        granted = own.find(({ claim }) => (claim as WireClaim).claimId === claimId) ?? {};
      })
      .catch((error: unknown) => {
        revoke();
        throw error;
      })
      .finally(() => signal?.removeEventListener('abort', revoke));
    if (signal?.aborted) revoke();
    return { handle, granted: done };
  }

  /** Joins groups; the promise settles with the server's answer. */
  join(syncGroups: readonly string[], ttl: unknown): { readonly claimId: string; readonly joined: Promise<void> } {
    const claimId = `participant:${newId()}`;
    const lasts = milliseconds(ttl);
    const ttlSeconds = lasts === undefined ? undefined : lasts / 1000;
    const payload = JSON.stringify({ claimId, syncGroups, ttlSeconds });
    return { claimId, joined: this.#session.send(ask(Ask.Claim, 0, payload, '{}'), nothing) };
  }

  /** What an action is about that names no target of its own. */
  aim(target: EntityRef | null): EntityRef {
    if (target !== null) return target;
    throw invalid('invalid_request', 'several rows are watched: say which one is meant', 'target');
  }

  #presence(): PresenceStream {
    const act = (action: string) => (target: PresenceTarget, detail?: string) => {
      const { type, id, ...part } = toRef(target);
      update({ ...part, entityType: type, entityId: id, action, ...defined({ detail }) });
    };
    const update = (activity: Activity): void => {
      checkObject(activity, 'presence.update');
      checkJson(activity, 'activity', 'invalid_options');
      this.#activity = Object.freeze({ ...activity });
      const text = JSON.stringify(activity);
      this.#session.whenLoaded(() => this.#session.tell(Ask.Activity, 0, text), nothing);
    };
    const others = (): readonly Peer[] => this.known.peers;
    const self = (): Peer => ({
      participantKind: this.known.kind,
      participantId: this.#participant() ?? '',
      syncGroups: [],
      activity: this.#activity,
      lastActive: new Date().toISOString(),
      activeClaims: this.known.own,
    });
    return Object.freeze({
      get self() {
        return self();
      },
      get others() {
        return others();
      },
      update,
      editing: act('editing'),
      reading: act('reading'),
      viewing: act('viewing'),
      idle: () => update(IDLE),
      othersIn: (group: string) => others().filter(({ syncGroups }) => syncGroups.includes(group)),
      onChange: (listener: () => void) => this.changes.add(listener),
      [Symbol.asyncIterator]: () => this.#follow(others),
    });
  }

  #client(): ClaimClient {
    const at = (target: ModelTarget): { index: number; type: string; target: ModelTarget } => {
      const { model } = target;
      return {
        // None, as the core counts them.
        index: Object.keys(this.#models).indexOf(model) >>> 0,
        type: (this.#models[model]?.typename ?? model).toLowerCase(),
        target,
      };
    };
    const others = (): readonly Claim[] => this.known.held;
    const list = (target: Partial<ModelTarget> = {}): readonly ModelClaim[] =>
      others().flatMap((claim) => (this.isOn(claim, target) ? [toModelClaim(claim)] : []));
    return Object.freeze({
      claim: (target: PresenceTarget, options: ClaimOptions = {}) => {
        const { handle, granted } = this.begin(at(toTarget(target)), { queue: false, ...options }, nothing);
        granted.catch((error: unknown) =>
          this.rejected.call(Object.freeze({ claimId: handle.claimId, error: error as AbloClaimedError })),
        );
        return handle;
      },
      create: async ({ target, ...options }: { target: ModelTarget } & ClaimOptions) => {
        const { handle, granted } = this.begin({ ...at(target), create: true }, { queue: false, ...options }, nothing);
        await granted;
        return handle;
      },
      list,
      waitFor: async (
        target: Partial<ModelTarget>,
        { timeout, signal }: { timeout?: number | undefined; signal?: AbortSignal | undefined } = {},
      ) => {
        const late = timeout === undefined ? undefined : AbortSignal.timeout(timeout);
        while (list(target).length > 0) {
          const code = signal?.aborted ? 'claim_wait_aborted' : late?.aborted ? 'model_claimed_timeout' : undefined;
          if (code !== undefined) {
            const Class = code === 'claim_wait_aborted' ? AbloConnectionError : AbloClaimedError;
            throw new Class('it is still claimed', { code });
          }
          await this.#next(signal, late);
        }
      },
      get others() {
        return others();
      },
      queueFor: (target: PresenceTarget) => this.queue(toTarget(target)),
      reorder: (target: PresenceTarget, order: readonly Claim[]) => this.reorder(toRef(target).type, toRef(target).id, order),
      onChange: (listener: () => void) => this.changes.add(listener),
      onRejected: (listener: (rejection: ClaimLost) => void) => this.rejected.add(listener),
      onLost: (listener: (lost: ClaimLost) => void) => this.lost.add(listener),
      [Symbol.asyncIterator]: () => this.#follow(others),
    }) as ClaimClient;
  }

  /** Resolves at the next change, or when one of these is aborted. */
  #next(...signals: (AbortSignal | undefined)[]): Promise<void> {
    return new Promise((done) => {
      const end = (): void => {
        stop();
        for (const signal of signals) signal?.removeEventListener('abort', end);
        done();
      };
      const stop = this.changes.add(end);
      for (const signal of signals) signal?.addEventListener('abort', end);
    });
  }

  async *#follow<T>(read: () => T): AsyncGenerator<T> {
    for (;;) {
      yield read();
      await this.#next();
    }
  }
}

function nothing(): undefined {}

const readCoordination = (core: Core): CoreCoordination => JSON.parse(core.text(Text.Coordination)!) as CoreCoordination;

/** A target in one form. */
export function toRef(target: PresenceTarget): EntityRef {
  if (!Array.isArray(target)) return target as EntityRef;
  return { type: target[0] as string, id: target[1] as string };
}

function toTarget(target: PresenceTarget): ModelTarget {
  const { type: model, ...part } = toRef(target);
  return { model, ...part };
}

/** A claim in the words of the interface. */
function toClaim(wire: WireClaim, heldBy: string, participantKind: Peer['participantKind']): Claim {
  const { claimId, entityType, entityId, action, declaredAt, expiresAt, estimatedMs, path, field, fieldOnly, range, meta } = wire;
  const { description } = (meta ?? {}) as { description?: string };
  return Object.freeze({
    object: 'claim',
    id: claimId,
    status: 'active',
    target: Object.freeze({ type: entityType, id: entityId, ...defined({ path, field, fieldOnly, range, meta }) }),
    reason: action ?? 'editing',
    ...defined({ description, createdAt: declaredAt }),
    heldBy,
    participantKind,
    expiresAt: expiresAt ?? Date.now() + (estimatedMs ?? LEASE_MS),
  });
}

function toModelClaim(claim: Claim): ModelClaim {
  const { id, reason, heldBy: actor, participantKind, expiresAt, description } = claim;
  const target = toTarget(claim.target);
  const known = { id, actor, participantKind, reason, expiresAt, status: 'active' as const, target };
  return Object.freeze({ ...known, ...defined({ description, field: target.field }) });
}

function toPeer(frame: PeerFrame): Peer {
  const { userId, status, syncGroups = [], activity, isAgent, timestamp, activeClaims = [], participantKind, label } = frame;
  const kind = participantKind ?? (isAgent ? 'agent' : 'user');
  const known = kind === 'human' ? 'user' : kind;
  const claims = activeClaims.filter((claim) => (claim.status ?? 'active') === 'active');
  return Object.freeze({
    participantKind: known,
    participantId: userId,
    ...defined({ label }),
    syncGroups: Object.freeze(syncGroups),
    activity: Object.freeze(activity ?? { ...IDLE, action: status }),
    lastActive: new Date(timestamp ?? Date.now()).toISOString(),
    activeClaims: Object.freeze(claims.map((claim) => toClaim(claim, userId, known))),
  });
}

/** Members that are there. */
export function defined<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as never;
}
