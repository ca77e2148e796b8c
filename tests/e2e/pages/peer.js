// What the JavaScript client of version 0.15 says about one model's rows, and what it understands (protocol 4, 6, 7, 10 and
// 11): a neighbour in the line that knows no fencing tokens, sends no renewals, and stamps all writes under a claim alike.

const CAPABILITIES = ['partialBootstrap', 'compressedDeltas', 'streamingBootstrap', 'batchedDeltas'];
const PING_MS = 30_000;

export class Peer {
  #token;
  #identity;
  #groups;
  #socket;
  #pings;
  #pongs = [];
  #cursor = 0;
  /** What came before the snapshot. */
  #early = [];
  /** Own claims, held or waited for: they are announced again on each new socket. */
  #own = new Map();
  /** Commits that were not answered: they are sent again, as another attempt. */
  #commits = new Map();
  #subscribed = [];
  rows = new Map();
  /** Claims of others, by id. */
  holders = new Map();
  /** By row, who waits. */
  lines = new Map();

  static async start(token) {
    const peer = new Peer();
    peer.#token = token;
    peer.#identity = await peer.#fetch('/auth/identity');
    peer.#groups = peer.#identity.syncGroups;
    // The socket is opened before the snapshot is there.
    await peer.#connect();
    const snapshot = await peer.#fetch(`/sync/bootstrap?${new URLSearchParams([...peer.#groups.map((group) => ['syncGroups', group]), ['models', 'Task']])}`);
    for (const row of snapshot.models.Task) peer.rows.set(row.id, row);
    peer.#cursor = snapshot.lastSyncId;
    const early = peer.#early;
    peer.#early = undefined;
    for (const delta of early) peer.#apply(delta);
    return peer;
  }

  get id() {
    return this.#identity.participantId;
  }

  /** Who holds the row, as far as it was told; an own claim is known from what it was answered. */
  holderOf(entityId) {
    for (const claim of this.#own.values()) if (claim.isHeld && claim.entityId === entityId) return this.id;
    for (const claim of this.holders.values()) if (claim.entityId === entityId) return claim.heldBy;
    return null;
  }

  lineOf(entityId) {
    return (this.lines.get(entityId) ?? []).map(({ heldBy, position }) => `${position} ${heldBy}`).join();
  }

  /** Section 11.2, for a caller that waits. */
  async claim(entityId, { estimatedMs } = {}) {
    const seen = this.holderOf(entityId) !== null;
    await this.#subscribe(`tasks:${entityId}`);
    const claim = { claimId: crypto.randomUUID(), entityId, estimatedMs, isHeld: false };
    const answer = new Promise((resolve, reject) => Object.assign(claim, { resolve, reject }));
    this.#own.set(claim.claimId, claim);
    this.#begin(claim);
    const waited = await answer;
    if (waited || seen) {
      const { results } = await this.#fetch('/sync/query', { queries: [{ model: 'Task', where: [['id', entityId]] }] });
      for (const row of results[0]) this.rows.set(row.id, row);
    }
    return { claimId: claim.claimId, entityId, waited, readAt: this.#cursor, data: this.rows.get(entityId) };
  }

  release({ claimId, entityId }) {
    this.#own.delete(claimId);
    this.#send('claim_abandon', { claimId, entityType: 'task', entityId });
  }

  reorder(entityId, line) {
    this.#send('claim_reorder', { entityType: 'task', entityId, order: line.map(({ id, heldBy }) => ({ heldBy, claimId: id })) });
  }

  /** A write, under a claim with the claim's stamp; what the server answers. */
  update(id, input, held) {
    const guard = held && { readAt: held.readAt, onStale: 'reject' };
    return new Promise((resolve) => {
      const operation = { type: 'UPDATE', model: 'task', id, input, transactionId: `tx_${Date.now()}_${Math.random().toString(36).slice(2, 11)}`, ...guard };
      this.#commit({ operation, resolve });
    });
  }

  /** Once the server has heard what was said so far: it answers in turn. */
  heard() {
    this.#send('ping');
    return new Promise((resolve) => this.#pongs.push(resolve));
  }

  /** The connection breaks, and another one is made. */
  async reconnect() {
    this.close();
    await this.#connect();
    for (const [clientTxId, commit] of [...this.#commits]) {
      this.#commits.delete(clientTxId);
      this.#commit(commit);
    }
  }

  /** Says nothing but that it closes. */
  close() {
    clearInterval(this.#pings);
    for (const { resolve } of this.#subscribed) resolve();
    this.#socket.onmessage = null;
    this.#socket.close(1000, 'Manual disconnect');
  }

  async #fetch(path, body) {
    const response = await fetch(`/api${path}`, {
      method: body ? 'POST' : 'GET',
      headers: { authorization: `Bearer ${this.#token}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  #connect() {
    const { participantKind } = this.#identity;
    const query = new URLSearchParams({ cursor: '', ...(participantKind !== 'user' && { kind: participantKind }) });
    for (const group of this.#groups) query.append('syncGroups', group);
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/api/sync/ws?${query}`, [`ablo.bearer.${this.#token}`, 'ablo.sync.v1']);
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const { type, payload } = JSON.parse(data);
      this.#heard[type]?.(payload);
    };
    this.#pings = setInterval(() => this.#send('ping'), PING_MS);
    return new Promise((resolve, reject) => {
      socket.onclose = ({ code }) => reject(new Error(`the socket was closed with ${code}`));
      socket.onopen = () => {
        this.#send('update_subscription', { syncGroups: this.#groups });
        for (const claim of this.#own.values()) this.#begin(claim);
        this.#send('presence_update', { status: 'online', timezone: 'Europe/Stockholm' });
        if (this.#cursor > 0) this.#send('ack', { lastSyncId: this.#cursor });
        this.#send('sync_request', { cursor: null, lastSyncId: this.#cursor, capabilities: CAPABILITIES });
        resolve();
      };
    });
  }

  #send(type, payload) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, payload }));
  }

  #begin({ claimId, entityId, estimatedMs }) {
    this.#send('claim_begin', { claimId, entityType: 'task', entityId, action: 'editing', estimatedMs, queue: true });
  }

  #commit({ operation, resolve }) {
    const clientTxId = crypto.randomUUID();
    this.#commits.set(clientTxId, { operation, resolve });
    this.#send('commit', { operations: [operation], clientTxId });
  }

  async #subscribe(group) {
    if (this.#groups.includes(group)) return;
    this.#groups = [...this.#groups, group];
    const answer = new Promise((resolve) => this.#subscribed.push({ group, resolve }));
    this.#send('update_subscription', { syncGroups: this.#groups });
    await answer;
    this.#subscribed = this.#subscribed.filter((one) => one.group !== group);
  }

  #apply(delta) {
    if (this.#early) {
      this.#early.push(delta);
      return;
    }
    const { id, actionType, modelName, modelId, data } = delta;
    if (modelName !== 'Task' || Number(id) <= this.#cursor) return;
    const fields = typeof data === 'string' ? JSON.parse(data) : data;
    if (actionType === 'D') this.rows.delete(modelId);
    else if (actionType === 'U') this.rows.set(modelId, { ...this.rows.get(modelId), ...fields });
    else this.rows.set(modelId, { ...fields, id: modelId });
    this.#cursor = Number(id);
    this.#send('ack', { lastSyncId: this.#cursor });
  }

  #answered(claimId, waited) {
    const claim = this.#own.get(claimId);
    if (claim === undefined) return;
    claim.isHeld = true;
    claim.resolve(waited);
  }

  #ended(claimId, code) {
    const claim = this.#own.get(claimId);
    if (claim === undefined) return;
    this.#own.delete(claimId);
    claim.reject(Object.assign(new Error(code), { code }));
  }

  /** Frames of other types are none that it knows. */
  #heard = {
    pong: () => this.#pongs.shift()?.(),
    delta: (payload) => this.#apply(payload),
    sync_response: ({ deltas = [] }) => deltas.forEach((delta) => this.#apply(delta)),
    subscription_ack: ({ syncGroups }) => {
      for (const { group, resolve } of this.#subscribed) if (syncGroups.includes(group)) resolve();
    },
    presence_update: ({ kind, userId, activeClaims = [] }) => {
      if (userId === this.id) return;
      for (const [id, claim] of this.holders) if (claim.heldBy === userId) this.holders.delete(id);
      if (kind === 'leave') return;
      for (const { claimId, entityId, status = 'active' } of activeClaims) {
        if (status === 'active') this.holders.set(claimId, { entityId, heldBy: userId });
      }
    },
    claim_queue: ({ target, queue }) => this.lines.set(target.id, queue),
    claim_acquired: ({ claimId }) => this.#answered(claimId, false),
    claim_granted: ({ claimId }) => this.#answered(claimId, true),
    claim_rejected: ({ claimId, reason }) => this.#ended(claimId, reason === 'conflict' ? 'claim_conflict' : 'claim_lease_unavailable'),
    claim_lost: ({ claimId }) => this.#ended(claimId, 'claim_lost'),
    mutation_result: ({ clientTxId, success, error }) => {
      this.#commits.get(clientTxId)?.resolve(success ? 'confirmed' : error.code);
      this.#commits.delete(clientTxId);
    },
  };
}
