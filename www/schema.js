// The models of the board. schema.json is the same for the server: toSchemaJSON(schema), checked by a test.

import { defineSchema, field, model, relation } from 'ablo-wasm';

export const STATUSES = ['todo', 'doing', 'done'];
export const PRIORITIES = ['low', 'normal', 'high'];
export const COLORS = ['indigo', 'teal', 'amber', 'rose', 'sky', 'lime'];

export const schema = defineSchema({
  projects: model(
    {
      name: field.string(),
      color: field.enum(COLORS).default('indigo'),
      rank: field.number(),
    },
    { tasks: relation.hasMany('tasks', 'projectId') },
    { typename: 'Project' },
  ),
  tasks: model(
    {
      title: field.string(),
      status: field.enum(STATUSES).default('todo'),
      priority: field.enum(PRIORITIES).default('normal'),
      assignee: field.string().optional(),
      rank: field.number(),
      projectId: field.id(),
    },
    { project: relation.belongsTo('projects', 'projectId') },
    { typename: 'Task' },
  ),
});
