// The busy agent: a second client on this page, with a key and a connection of its own, that changes things faster than
// anybody could look. What it does comes back to the board the way that everybody's changes do, through the server.

import { number } from './dom.js';
import { connect } from './session.js';
import { PEOPLE } from './people.js';
import { PRIORITIES, STATUSES } from './schema.js';

const PER_SECOND = 15;
/** Beyond that the server is slower than we are: skip a beat. */
const IN_FLIGHT_MAX = 8;
/** The agent works near the top, where it can be seen. */
const NEAR_TOP = 6;
/** Somebody else was faster: the task is gone, or held. */
const TOO_LATE = ['entity_not_found', 'mutate_update_entity_not_found', 'entity_claimed'];

export class BusyAgent {
  changes = 0;
  #board;
  #changed;
  #failed;
  #client;
  #timer;
  #inFlight = 0;

  constructor(board, { changed, failed }) {
    this.#board = board;
    this.#changed = changed;
    this.#failed = failed;
  }

  get isRunning() {
    return this.#timer !== undefined;
  }

  async toggle() {
    if (this.isRunning) {
      this.stop();
      return;
    }
    this.#timer = setInterval(() => this.#step(), 1000 / PER_SECOND);
    this.#changed();
    try {
      this.#client ??= connect('agent');
      await this.#client.ready();
    } catch (error) {
      this.stop();
      this.#failed(error);
    }
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#changed();
  }

  /** What its button says. */
  get label() {
    return this.isRunning ? `Busy · ${number(this.changes)} changes` : 'Busy agent';
  }

  async #step() {
    const operation = this.#inFlight < IN_FLIGHT_MAX ? this.#think() : undefined;
    if (operation === undefined) return;
    this.#inFlight += 1;
    try {
      await this.#client.commits.create({ operation });
      this.changes += 1;
      this.#changed();
    } catch (error) {
      if (!TOO_LATE.includes(error.code) && this.isRunning) {
        this.stop();
        this.#failed(error);
      }
    } finally {
      this.#inFlight -= 1;
    }
  }

  /** Looks at the board like a person and decides what to change. */
  #think() {
    const columns = [...this.#board.columns.values()].filter((column) => column.rows.length > 0);
    if (columns.length === 0) return undefined;
    const task = pick(pick(columns).rows.slice(0, NEAR_TOP));
    const dice = Math.random();
    let data = { priority: other(PRIORITIES, task.priority) };
    if (dice < 0.5) {
      const status = other(STATUSES, task.status);
      const place = Math.floor(Math.random() * NEAR_TOP);
      const column = this.#board.columns.get(status);
      data = { status, rank: column.rankAt(Math.min(place, column.count), task.id) };
    } else if (dice < 0.75) data = { assignee: other(Object.keys(PEOPLE), task.assignee) };
    return { action: 'update', model: 'tasks', id: task.id, data };
  }
}

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const other = (list, current) => pick(list.filter((value) => value !== current));
