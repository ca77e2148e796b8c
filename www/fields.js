// What a task consists of, for people: names of fields and of their values.

import { nameOf, PEOPLE } from './people.js';
import { PRIORITIES, STATUSES } from './schema.js';

export const STATUS_LABELS = { todo: 'To do', doing: 'In progress', done: 'Done' };
export const PRIORITY_LABELS = { low: 'Low', normal: 'Normal', high: 'High' };
export const FIELD_LABELS = { title: 'Title', status: 'Status', priority: 'Priority', assignee: 'Assignee', rank: 'Place in the column' };

/** Values that can be chosen, with what they are called. */
export const CHOICES = {
  status: STATUSES.map((value) => [value, STATUS_LABELS[value]]),
  priority: PRIORITIES.map((value) => [value, PRIORITY_LABELS[value]]),
  assignee: [['', 'Nobody'], ...Object.entries(PEOPLE).map(([id, { name }]) => [id, name])],
};

/** A value as people read it. */
export function wordsOf(field, value) {
  if (field === 'assignee') return value ? nameOf(value) : 'Nobody';
  const [, words] = CHOICES[field]?.find(([known]) => known === value) ?? [];
  return words ?? String(value ?? '–');
}

/** Fields and values, as a text that can be pasted. */
export function textOf(data) {
  const entries = Object.entries(data);
  // A title alone needs no name.
  if (entries.length === 1 && entries[0][0] === 'title') return data.title;
  return entries.map(([field, value]) => `${FIELD_LABELS[field] ?? field}: ${wordsOf(field, value)}`).join('\n');
}
