/** The schema that the other files use, and what follows from it. */

import { defineSchema, field, identityRole, model, relation } from 'ablo-wasm/schema';
import type { InferCreate, InferModel, InferModelNames, InferUpdate } from 'ablo-wasm/schema';

import { equal } from './equal.js';

export interface Address {
  street: string;
  floor?: number;
}

export const schema = defineSchema(
  {
    projects: model(
      { name: field.string(), address: field.json<Address>().optional() },
      { tasks: relation.hasMany('tasks', 'projectId', { orderBy: 'rank' }) },
      { typename: 'Project', groups: { root: 'project' } },
    ),
    tasks: model(
      {
        title: field.string(),
        rank: field.number().default(0),
        state: field.enum(['open', 'done']).default('open'),
        urgent: field.boolean().nullable(),
        dueAt: field.date().optional(),
        projectId: field.id().indexed().from('project'),
      },
      { project: relation.belongsTo('projects', 'projectId', { parent: true }) },
      { typename: 'Task', computed: { overdue: (row) => row.state === 'open' && row.dueAt !== undefined } },
    ),
  },
  { casing: 'snake_case', identityRoles: [identityRole({ kind: 'org', source: 'organizationId' })] },
);

export type AppSchema = typeof schema;
type Task = InferModel<AppSchema, 'tasks'>;
type NewTask = InferCreate<AppSchema, 'tasks'>;
type TaskPatch = InferUpdate<AppSchema, 'tasks'>;

equal<InferModelNames<AppSchema>, 'projects' | 'tasks'>(true);
equal<Task['state'], 'open' | 'done'>(true);
equal<Task['urgent'], boolean | null>(true);
equal<Task['rank'], number>(true);
equal<Task['createdAt'], Date>(true);
equal<Task['overdue'], boolean>(true);
equal<InferModel<AppSchema, 'projects'>['address'], Address | undefined>(true);
// Rows hold dates other than the base fields as text; writes take either.
equal<Task['dueAt'], string | undefined>(true);
equal<NewTask['dueAt'], string | Date | undefined>(true);
equal<TaskPatch['dueAt'], string | Date | null | undefined>(true);
equal<TaskPatch['title'], string | undefined>(true);

export const least: NewTask = { title: 'x', urgent: null, projectId: 'p1' };
// @ts-expect-error title is required
export const without: NewTask = { urgent: null, projectId: 'p1' };
// @ts-expect-error not one of the values
export const wrongState: NewTask = { ...least, state: 'closed' };
// @ts-expect-error unknown field
export const unknownField: NewTask = { ...least, titel: 'x' };

declare const row: Task;
// @ts-expect-error rows are read-only
row.title = 'y';
// @ts-expect-error no such field
export const nothing = row.titel;
declare const project: InferModel<AppSchema, 'projects'>;
// @ts-expect-error no such field, in a model without computed ones
export const nameless = project.nam;

// @ts-expect-error not a field builder
model({ title: 'string' });
// @ts-expect-error an enum needs values
field.enum([]);
// @ts-expect-error not a default of this type
field.number().default('0');
// @ts-expect-error no such option
relation.belongsTo('projects', 'projectId', { cascade: true });
// @ts-expect-error no such load strategy
model({ title: field.string() }, {}, { load: 'eager' });
// @ts-expect-error the key of another model
export type NoModel = InferModel<AppSchema, 'decks'>;
