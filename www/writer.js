// Writes, and which rows have some that the server has not confirmed yet.

const OURS_FOR_MS = 3000;

export class Writer {
  #ablo;
  #pending = new Map();
  #online = true;
  #recent = new Map();
  #changed;
  #failed;

  /**
   * @param changed called with the id of a row when its state may have changed
   * @param failed called with the error of a call that did not even begin
   */
  constructor(ablo, { changed, failed }) {
    this.#ablo = ablo;
    this.#changed = changed;
    this.#failed = failed;
    ablo.onStatus(({ connection }) => {
      const online = connection.state === 'connected';
      if (online === this.#online) return;
      this.#online = online;
      for (const id of this.#pending.keys()) changed(id);
    });
  }

  create(data) {
    const id = crypto.randomUUID();
    return this.#run(id, () => this.#ablo.tasks.create({ id, data }));
  }

  update(id, data) {
    return this.#run(id, () => this.#ablo.tasks.update({ id, data }));
  }

  delete(id) {
    return this.#run(id, () => this.#ablo.tasks.delete({ id }));
  }

  /** `'saving'` (or `'waiting'` without a connection) until the server has confirmed, then for a moment `'saved'`. */
  state(id) {
    if (this.#pending.has(id)) return this.#online ? 'saving' : 'waiting';
    return this.#recent.has(id) ? 'saved' : undefined;
  }

  /** Whether what happens to this row now is of our own making. */
  isOurs(id) {
    return this.#pending.has(id) || this.#recent.has(id);
  }

  // A write is visible at once. Its promise resolves when it is queued; waitForConfirmation tells of the server's answer.
  async #run(id, write) {
    this.#pending.set(id, (this.#pending.get(id) ?? 0) + 1);
    try {
      const queued = write();
      this.#changed(id);
      await queued;
    } catch (error) {
      this.#done(id);
      this.#failed(error);
      return;
    }
    // A refusal is undone by the client and announced by `write:rejected`, once for all writes.
    await this.#ablo.waitForConfirmation('Task', id).catch(() => undefined);
    this.#done(id);
  }

  #done(id) {
    const left = this.#pending.get(id) - 1;
    if (left > 0) {
      this.#pending.set(id, left);
      return;
    }
    this.#pending.delete(id);
    clearTimeout(this.#recent.get(id));
    this.#recent.set(
      id,
      setTimeout(() => {
        this.#recent.delete(id);
        this.#changed(id);
      }, OURS_FOR_MS),
    );
    this.#changed(id);
  }
}
