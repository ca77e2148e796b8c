// Watching the grants of a server: who held a row when, and whether it was their turn.

import assert from 'node:assert/strict';

/** In the page: listens as any client does, and keeps what the server says about lines and holders. */
export function observe(token) {
  const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/api/sync/ws?cursor=`, [`ablo.bearer.${token}`, 'ablo.sync.v1']);
  globalThis.frames = [];
  globalThis.beats = setInterval(() => socket.send('{"type":"ping"}'), 10_000);
  socket.onmessage = ({ data }) => {
    const { type, payload } = JSON.parse(data);
    // Who leaves keeps the lease for a while.
    if (type === 'presence_update' && payload.kind === 'leave') frames.push({ away: payload.userId });
    if (type === 'claim_queue') frames.push({ row: payload.target.id, line: payload.queue.map(({ id }) => id) });
    if (type === 'presence_update' && payload.kind !== 'leave') {
      frames.push({ who: payload.userId, claims: (payload.activeClaims ?? []).filter(({ status }) => status === 'active').map(({ claimId, entityId }) => [claimId, entityId]) });
    }
  };
  return new Promise((resolve) => (socket.onopen = resolve));
}

/**
 * Checks that a row has one holder at a time, and that each grant went to the head of its line. How many there were.
 *
 * Nothing is told of participants that are away: one may be granted a row unseen, and one whose time is up meanwhile is
 * passed over. What has ended so must never come back.
 */
export function checkGrants(frames) {
  const lines = new Map();
  /** By row: the claim and its participant. */
  const holders = new Map();
  const away = new Set();
  const over = new Set();
  /** Left a line while its row had no holder that could be seen. */
  const unseen = new Set();
  let grants = 0;
  for (const { away: left, row, line, who, claims } of frames) {
    if (left !== undefined) {
      away.add(left);
      continue;
    }
    if (row !== undefined) {
      const holder = holders.get(row);
      const gone = (lines.get(row) ?? []).filter((id) => !line.includes(id) && id !== holder?.claimId);
      if (holder === undefined || away.has(holder.who)) for (const id of gone) unseen.add(id);
      assert.ok(!line.some((id) => over.has(id)), `somebody is in the line of ${row} whose place was over`);
      lines.set(row, line);
      continue;
    }
    away.delete(who);
    for (const [id, holder] of holders) {
      if (holder.who !== who || claims.some(([claimId]) => claimId === holder.claimId)) continue;
      holders.delete(id);
      over.add(holder.claimId);
    }
    for (const [claimId, id] of claims) {
      const holder = holders.get(id);
      if (holder?.claimId === claimId) continue;
      assert.ok(!over.has(claimId), `${claimId} comes back after it was over`);
      if (holder !== undefined) {
        assert.ok(away.has(holder.who), `${id} is granted to ${who} while ${holder.who} holds it`);
        over.add(holder.claimId);
      }
      const line = lines.get(id) ?? [];
      if (line.includes(claimId)) for (const other of line.slice(0, line.indexOf(claimId))) over.add(other);
      else assert.ok(line.length === 0 || unseen.has(claimId), `${id} is granted to ${who}, who was not in its line`);
      holders.set(id, { claimId, who });
      grants += 1;
    }
  }
  return grants;
}
