// Writes of this page, and how far those of each row have come, as the outbox tells it.

const OURS_FOR_MS = 3000;

export class Writer {
  #ablo;
  #changed;
  #failed;
  #held;
  /** Writes that the server may hold back to ask: row and watermark of each. */
  #guarded = new Set();
  /** Rows of which writes of an earlier page were waiting when this one began. */
  #inherited;
  /** By row: the stage of its newest write that is not confirmed. */
  #stages = new Map();
  /** By row: that something of ours happened a moment ago, and whether it was confirmed. */
  #recent = new Map();

  /**
   * @param changed called with the id of a row when its state may have changed
   * @param failed called with the error of a call that did not even begin
   * @param held called with the row that somebody else holds, and with what was not written because of that
   */
  constructor(ablo, { changed, failed, held }) {
    this.#ablo = ablo;
    this.#changed = changed;
    this.#failed = failed;
    this.#held = held;
    this.#stages = stagesOf(ablo.outbox.list());
    this.#inherited = new Set(this.#stages.keys());
    ablo.outbox.onChange((entries) => this.#follow(entries));
  }

  create(data) {
    const id = crypto.randomUUID();
    return this.#run(id, () => this.#ablo.tasks.create({ id, data }));
  }

  // What somebody else holds is not written: `update`, `move` and `delete` return undefined then. Otherwise it is
  // a promise of whether the write is safe here.

  /** How far the rows are up to date. */
  get now() {
    return this.#ablo.status.lastSyncId;
  }

  /** A quick change. If somebody else was as quick, nobody is overwritten: the server holds it back and asks. */
  update(id, data, readAt = this.now) {
    return this.#isFree(id, data) ? this.draft(id, data, readAt) : undefined;
  }

  /** A change that was made while looking at what the row was at `readAt`. */
  draft(id, data, readAt) {
    this.#guarded.add(`${id} ${readAt}`);
    return this.#run(id, () => this.#ablo.tasks.update({ id, data, readAt, onStale: 'notify' }));
  }

  /** A move: the last one counts, as with hands on a real board. */
  move(id, data) {
    if (!this.#isFree(id)) return undefined;
    return this.#run(id, () => this.#ablo.tasks.update({ id, data }));
  }

  /** A change under a claim. Unlike the others it waits for the server, and throws what that says. */
  async updateUnder(claim, id, data) {
    this.#remember(id, false);
    await this.#ablo.tasks.update({ id, data, claim });
    this.#remember(id, true);
  }

  delete(id) {
    if (!this.#isFree(id)) return undefined;
    return this.#run(id, () => this.#ablo.tasks.delete({ id }));
  }

  /** Whether a write of ours is meant that we want to be asked about. */
  isGuarded(id, readAt) {
    return this.#guarded.has(`${id} ${readAt}`) || this.#inherited.has(id);
  }

  /**
   * `'applied'`, `'journaled'` and `'sent'` are stages of what is not confirmed yet, `'rejected'` of what the server
   * refused; `'saved'` for a moment after everything was confirmed.
   */
  state(id) {
    return this.#stages.get(id) ?? (this.#recent.get(id)?.saved ? 'saved' : undefined);
  }

  /** Whether what happens to this row now is of our own making. */
  isOurs(id) {
    return this.#recent.has(id) || (this.#stages.get(id) ?? 'rejected') !== 'rejected';
  }

  // Who holds what is only known while we are connected. Without, the server decides when it hears of the write.
  #isFree(id, data) {
    const { connection, participantId } = this.#ablo.status;
    const claim = connection.state === 'connected' ? this.#ablo.tasks.claim.state({ id }) : null;
    const isFree = claim === null || claim.heldBy === participantId;
    if (!isFree) this.#held(id, data);
    return isFree;
  }

  // A write is visible at once; its promise says that it is safe here. A refusal comes later, to the outbox.
  async #run(id, write) {
    this.#remember(id, false);
    try {
      await write();
      return true;
    } catch (error) {
      this.#failed(error);
      return false;
    }
  }

  #follow(entries) {
    const before = this.#stages;
    this.#stages = stagesOf(entries);
    for (const [id, stage] of this.#stages) if (before.get(id) !== stage) this.#changed(id);
    for (const [id, stage] of before) {
      if (this.#stages.has(id)) continue;
      // What leaves the outbox is confirmed; what was refused leaves it when somebody gives it up.
      if (stage !== 'rejected') this.#remember(id, true);
      this.#changed(id);
    }
  }

  #remember(id, saved) {
    clearTimeout(this.#recent.get(id)?.timer);
    const forget = () => {
      this.#recent.delete(id);
      this.#changed(id);
    };
    this.#recent.set(id, { saved, timer: setTimeout(forget, OURS_FOR_MS) });
  }
}

function stagesOf(entries) {
  const stages = new Map();
  // Refused ones come last in the list, and count only where nothing newer is on its way.
  for (const { stage, operations } of entries) {
    for (const { id } of operations) if (stage !== 'rejected' || !stages.has(id)) stages.set(id, stage);
  }
  return stages;
}
