/** `ablo.snapshot`: rows as they were, and word of the first change to one of them. */

import type { Snapshot } from './coordination-types.js';
import { invalid } from './errors.js';
import { Listeners } from './report.js';
import type { Row } from './rows.js';
import type { Session } from './session.js';
import { checkId, show } from './values.js';

const RESERVED = ['stamp', 'signal', 'onChange'];

interface Captured {
  readonly model: string;
  readonly id: string;
  readonly find: () => Row | undefined;
  row: Row | undefined;
}

export function takeSnapshot(
  session: Session,
  keys: readonly string[],
  stamp: number,
  entities: Readonly<Record<string, string | readonly string[] | undefined>>,
): Snapshot {
  const captured: Captured[] = [];
  const rows: Record<string, Record<string, Row>> = {};
  for (const [model, ids] of Object.entries(entities)) {
    const cache = session.models[keys.indexOf(model)];
    if (RESERVED.includes(model)) throw invalid('snapshot_reserved_key', `"${model}" is a member of snapshots`, model);
    if (cache === undefined) throw invalid('unknown_model', `no model ${show(model)} in this schema`, model);
    const found: Record<string, Row> = (rows[model] = {});
    for (const id of [ids ?? []].flat()) {
      const find = (): Row | undefined => cache.known(id) ?? cache.find(id);
      const row = find();
      if (row !== undefined) found[checkId(id)] = row;
      captured.push({ model, id, find, row });
    }
    Object.freeze(found);
  }
  const changed = new AbortController();
  const changes = new Listeners<[{ model: string; id: string; severity: 'semantic' }]>();
  session.changes.add(({ models }) => {
    for (const one of captured) {
      if (!models.includes(one.model)) continue;
      const row = one.find();
      if (row === one.row) continue;
      one.row = row;
      changed.abort();
      changes.call({ model: one.model, id: one.id, severity: 'semantic' });
    }
  });
  const onChange: Snapshot['onChange'] = (listener) => changes.add(listener);
  return Object.freeze({ ...rows, stamp, signal: changed.signal, onChange }) as unknown as Snapshot;
}
