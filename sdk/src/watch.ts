/** `ablo.<model>.watch`: groups joined for a while. A file of its own, loaded by the first call. */

import type { Claim, EntityRef, JoinedParticipant, Peer, PresenceTarget } from './coordination-types.js';
import type { Coordination } from './coordination.js';
import type { ClaimHandle, ClaimOptions, Duration } from './coordination-types.js';

/** What is watched. */
export interface WatchParams {
  /** Kind of the groups of this model's rows. */
  readonly kind: string;
  /** The model's name on the wire. */
  readonly type: string;
  readonly ids: readonly string[];
  readonly ttl?: Duration | undefined;
}

/** Joins the groups of rows. */
export async function watch(coordination: Coordination, { kind, type, ids, ttl }: WatchParams): Promise<JoinedParticipant> {
  const syncGroups = Object.freeze(ids.map((id) => `${kind}:${id}`));
  const target: EntityRef | null = ids.length === 1 ? Object.freeze({ type, id: ids[0]! }) : null;
  const { claimId, joined } = coordination.join(syncGroups, ttl);
  await joined;
  const presence = coordination.presence;
  const claims = coordination.claims;
  const held = new Set<ClaimHandle>();
  let focus = target;
  let over = false;
  const toRef = (given: PresenceTarget): EntityRef => {
    if (!Array.isArray(given)) return given as EntityRef;
    return { type: given[0] as string, id: given[1] as string };
  };
  const aim = (given: PresenceTarget | undefined): EntityRef => coordination.aim(given === undefined ? focus : toRef(given));
  const isNear = ({ syncGroups: shared, activity }: Peer): boolean =>
    shared.some((group) => syncGroups.includes(group)) ||
    (activity.entityId === focus?.id && activity.entityType.toLowerCase() === focus.type.toLowerCase());
  const others = (): readonly Peer[] => presence.others.filter(isNear);
  const isHere = ({ target: { id, type: of } }: Claim): boolean =>
    (of.toLowerCase() === type && ids.includes(id)) || (id === focus?.id && of.toLowerCase() === focus.type.toLowerCase());
  const claimed = (): readonly Claim[] => claims.others.filter(isHere);
  const leave = async (): Promise<void> => {
    if (over) return;
    over = true;
    for (const handle of held) handle.revoke();
    presence.idle();
    coordination.release(claimId);
  };
  const act = (action: 'reading' | 'viewing' | 'editing') => (given?: PresenceTarget, detail?: string) =>
    presence[action](aim(given), detail);
  const self: JoinedParticipant = Object.freeze({
    target,
    get focusTarget() {
      return focus;
    },
    syncGroups,
    presence: Object.freeze({
      get self() {
        return presence.self;
      },
      get focus() {
        return focus;
      },
      get others() {
        return others();
      },
      update: presence.update,
      reading: act('reading'),
      viewing: act('viewing'),
      editing: act('editing'),
      idle: presence.idle,
      onChange: presence.onChange,
      async *[Symbol.asyncIterator]() {
        for await (const _ of presence) yield others();
      },
    }),
    claims: Object.freeze({
      get focus() {
        return focus;
      },
      get others() {
        return claimed();
      },
      claim({ target: given, ...options }: ClaimOptions & { readonly target?: PresenceTarget | undefined } = {}) {
        const handle = claims.claim(aim(given), options);
        held.add(handle);
        return handle;
      },
      onRejected: claims.onRejected,
      onChange: claims.onChange,
    }),
    get peers() {
      return others();
    },
    get activeClaims() {
      return claimed();
    },
    focus(given: PresenceTarget, { activity = 'viewing', detail }: Parameters<JoinedParticipant['focus']>[1] = {}) {
      focus = toRef(given);
      if (activity) presence[activity](focus, detail);
      return self;
    },
    leave,
    [Symbol.asyncDispose]: leave,
  });
  return self;
}
