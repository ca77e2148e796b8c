// The agent: a client with a key of its own that works as a careful colleague does. It claims a task, in line if it must,
// thinks where everybody can see it, writes under its claim what it has decided, and gives the task back.

import { PEOPLE } from './people.js';
import { connect } from './session.js';

/** What it thinks about, one thing after another: a real agent would ask a model. */
const THOUGHTS = ['reading the task', 'comparing loads', 'choosing somebody'];
const THOUGHT_MS = 1200;
const REASON = 'finding somebody for it';
/** From here on somebody else should help. */
const UNFAIR = 2;

export class Agent {
  #board;
  #changed;
  #failed;
  #client;
  #stop;
  #asked = [];
  #doing = '';

  /** @param changed called when the label may have changed */
  constructor(board, { changed, failed }) {
    this.#board = board;
    this.#changed = changed;
    this.#failed = failed;
  }

  get isRunning() {
    return this.#stop !== undefined;
  }

  /** What its button says. */
  get label() {
    return this.isRunning ? `Agent · ${this.#doing}` : 'Agent';
  }

  toggle() {
    if (this.isRunning) this.stop();
    else this.#run(() => this.#look());
  }

  /** Gives it one task. When it does not work by itself it ends with that. */
  ask(id) {
    this.#asked.push(id);
    if (!this.isRunning) this.#run(() => undefined);
  }

  /** Ends it where it is: it leaves the line, or gives the task back untouched. */
  stop() {
    this.#asked = [];
    this.#stop?.abort();
  }

  async #run(look) {
    const { signal } = (this.#stop = new AbortController());
    this.#tell('starting');
    try {
      // Other than most agents it counts everything, so it wants the rows here.
      this.#client ??= connect('agent', { bootstrapMode: 'full' });
      await this.#client.ready();
      for (let id = this.#next(look); id !== undefined && !signal.aborted; id = this.#next(look)) await this.#work(id, signal);
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
    }
    this.#stop = undefined;
    this.#tell('');
  }

  #next(look) {
    return this.#asked.shift() ?? look();
  }

  async #work(id, stopped) {
    const { claims, tasks, presence } = this.#client;
    const tellLine = () => this.#tell(tasks.claim.queue({ id }).data.some(({ heldBy }) => heldBy === presence.self.participantId) ? 'in line' : 'asking');
    const stopTelling = claims.onChange(tellLine);
    tellLine();
    presence.update({ entityType: 'Task', entityId: id, action: 'waiting' });
    let claim;
    try {
      claim = await tasks.claim({ id, reason: REASON, signal: stopped });
      stopTelling();
      this.#tell('at work');
      const over = AbortSignal.any([stopped, claim.signal]);
      for (const thought of THOUGHTS) {
        presence.update({ entityType: 'Task', entityId: id, action: 'editing', detail: thought });
        await pause(THOUGHT_MS, over);
      }
      await tasks.update({ id, claim, data: (task) => this.#decide(task) });
    } catch (error) {
      if (!stopped.aborted && !PASSING.includes(error.code)) throw error;
    } finally {
      stopTelling();
      presence.idle();
      await claim?.release();
    }
  }

  /** Gives a task to whoever has least to do; of somebody who has not much more than that it takes nothing. */
  #decide({ assignee }) {
    const least = this.#byLoad()[0];
    const isFair = assignee && this.#load(assignee) - this.#load(least) < UNFAIR;
    return isFair || least === assignee ? undefined : { assignee: least };
  }

  /** Looks at the board like a person: first what nobody does, then what somebody has too much of. */
  #look() {
    const near = ['todo', 'doing'].flatMap((status) => this.#board.columns.get(status).rows);
    // What this client knows of them: it is what it decides by.
    const open = near.map(({ id }) => this.#client.tasks.get(id)).filter((task) => task !== undefined && task.status !== 'done');
    const people = this.#byLoad();
    const [least, most] = [people[0], people.at(-1)];
    const isUnfair = this.#load(most) - this.#load(least) >= UNFAIR;
    return (open.find(({ assignee }) => !assignee) ?? open.find(({ assignee }) => isUnfair && assignee === most))?.id;
  }

  #byLoad() {
    return Object.keys(PEOPLE).sort((one, other) => this.#load(one) - this.#load(other));
  }

  /** How many open tasks somebody has in this project. */
  #load(assignee) {
    const count = (where) => this.#client.tasks.getCount({ where: { projectId: this.#board.projectId, assignee, ...where } });
    return count({}) - count({ status: 'done' });
  }

  #tell(doing) {
    this.#doing = doing;
    this.#changed();
  }
}

/** What may happen to a task while somebody waits for it or thinks about it. */
const PASSING = ['claim_lost', 'entity_not_found', 'claim_wait_aborted'];

/** @throws the reason of the signal */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
