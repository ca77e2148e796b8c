/** The entry for undo: models and fields are those of the client. */

import { type Ablo, defineSchema, field, model } from 'ablo-wasm';
import { type InverseOp, undoScope, type UndoConflict, type UndoEntry, type UndoResult, type UndoScope } from 'ablo-wasm/undo';

import { equal } from './equal.js';

const schema = defineSchema({
  projects: model({ name: field.string() }),
  tasks: model({ title: field.string(), rank: field.number().default(0), dueAt: field.date().optional() }),
});
type S = typeof schema;
declare const ablo: Ablo<S>;

const scope = undoScope(ablo, 'board', {
  maxHistory: 10,
  conflictPolicy: 'last-writer-wins',
  tracksModel: (modelKey) => {
    equal<typeof modelKey, 'projects' | 'tasks'>(true);
    return modelKey === 'tasks';
  },
});
equal<typeof scope, UndoScope<S>>(true);
equal<InverseOp<S>['modelKey'], 'projects' | 'tasks'>(true);
equal<UndoConflict<S>['modelKey'], 'projects' | 'tasks'>(true);
equal<ReturnType<typeof scope.undo>, Promise<UndoResult<S> | undefined>>(true);

export async function use(): Promise<number> {
  scope.record({
    label: 'import',
    inverses: [
      { kind: 'deleteMany', modelKey: 'tasks', ids: ['t1'] },
      { kind: 'update', modelKey: 'tasks', patch: { id: 't2', dueAt: null } },
      { kind: 'create', modelKey: 'projects', data: { id: 'p1', name: 'Support' } },
    ],
    forwards: [
      { kind: 'createMany', modelKey: 'tasks', data: [{ id: 't1', title: 'Call back' }] },
      { kind: 'updateMany', modelKey: 'tasks', patches: [{ id: 't2', dueAt: new Date(), rank: 1 }] },
      { kind: 'delete', modelKey: 'projects', id: 'p1' },
    ],
  });
  const stop = scope.onConflict(({ fields, writtenBy }) => `${writtenBy?.id}: ${fields.join()}`);
  scope.onRecord((entry) => equal<typeof entry, UndoEntry<S>>(true));
  scope.onChange(({ undo, redo }) => undo + redo);
  stop();
  const count = await scope.runRecorded(async () => 7, 'count');
  equal<typeof count, number>(true);
  const result = await scope.redo();
  return (result?.applied ?? 0) + (result?.conflicts.length ?? 0) + scope.size().undo + count;
}

const forwards: readonly [] = [];
// @ts-expect-error no such model
scope.record({ inverses: [{ kind: 'delete', modelKey: 'users', id: 'u1' }], forwards });
// @ts-expect-error a field of another model
scope.record({ inverses: [{ kind: 'update', modelKey: 'projects', patch: { id: 'p1', rank: 1 } }], forwards });
// @ts-expect-error a create says which row
scope.record({ inverses: [{ kind: 'create', modelKey: 'tasks', data: { title: 'Call back' } }], forwards });
// @ts-expect-error a title cannot be cleared
scope.record({ inverses: [{ kind: 'update', modelKey: 'tasks', patch: { id: 't1', title: null } }], forwards });
// @ts-expect-error no such kind
scope.record({ inverses: [{ kind: 'move', modelKey: 'tasks', id: 't1' }], forwards });
// @ts-expect-error no such option
undoScope(ablo, 'board', { history: 5 });
// @ts-expect-error no such policy
undoScope(ablo, 'board', { conflictPolicy: 'ask' });
// @ts-expect-error not a client
undoScope({}, 'board');
