// A turn at a task: from asking for its claim to giving it back. What is shown for it is the editor's business.

/** An answer that takes longer will not come soon: rather a draft now than nothing. */
const PATIENCE_MS = 5000;

/**
 * `state` is one of
 * `asking` the server has not answered yet;
 * `ours` we hold the task: `claim`;
 * `theirs` somebody else does;
 * `waiting` we are in line;
 * `draft` nobody can be asked: what is written now is compared when it is sent, with what was seen at `readAt`;
 * `lost` we held it, and do not any more: `error`;
 * `refused` it cannot be had at all: `error`.
 */
export class Turn {
  state = 'asking';
  claim;
  error;
  readAt;
  #ablo;
  #id;
  #changed;
  #stop = new AbortController();
  #isOver = false;

  /** @param changed called when `state` has changed */
  constructor(ablo, id, changed) {
    this.#ablo = ablo;
    this.#id = id;
    this.#changed = changed;
  }

  /** Takes the task if nobody has it. */
  take() {
    this.readAt = this.#ablo.status.lastSyncId;
    if (this.#ablo.status.connection.state !== 'connected') return this.#become('draft');
    return this.#ask('asking', { queue: false, waitTimeoutMs: PATIENCE_MS });
  }

  /** Waits in line for it. */
  wait() {
    return this.#ask('waiting', { queue: true });
  }

  /** Leaves the line. */
  leaveLine() {
    this.#stop.abort();
  }

  /** Gives back what there is. */
  async end() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stop.abort();
    await this.claim?.release();
  }

  async #ask(state, options) {
    const { signal } = (this.#stop = new AbortController());
    this.#become(state);
    try {
      const claim = await this.#ablo.tasks.claim({ id: this.#id, reason: 'editing', signal, ...options });
      this.claim = claim;
      if (this.#isOver) return await claim.release();
      claim.signal.addEventListener('abort', () => {
        this.claim = undefined;
        this.#become('lost', claim.signal.reason);
      });
      this.#become('ours');
    } catch (error) {
      this.#become(STATES[error.code] ?? 'refused', error);
    }
  }

  #become(state, error) {
    if (this.#isOver) return;
    this.state = state;
    this.error = error;
    this.#changed();
  }
}

/** What a claim that was not granted leads to. */
const STATES = { entity_claimed: 'theirs', claim_conflict: 'theirs', claim_wait_aborted: 'theirs', grant_timeout: 'draft' };
