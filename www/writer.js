// Writes of this page, and how far those of each row have come, as the outbox tells it.

const OURS_FOR_MS = 3000;

export class Writer {
  #ablo;
  #changed;
  #failed;
  /** By row: the stage of its newest write that is not confirmed. */
  #stages = new Map();
  /** By row: that something of ours happened a moment ago, and whether it was confirmed. */
  #recent = new Map();

  /**
   * @param changed called with the id of a row when its state may have changed
   * @param failed called with the error of a call that did not even begin
   */
  constructor(ablo, { changed, failed }) {
    this.#ablo = ablo;
    this.#changed = changed;
    this.#failed = failed;
    this.#stages = stagesOf(ablo.outbox.list());
    ablo.outbox.onChange((entries) => this.#follow(entries));
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

  // A write is visible at once; its promise says that it is safe here. A refusal comes later, to the outbox.
  async #run(id, write) {
    this.#remember(id, false);
    try {
      await write();
    } catch (error) {
      this.#failed(error);
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
