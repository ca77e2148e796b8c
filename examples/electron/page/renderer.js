// The page: an ordinary one. Nothing in it knows of Electron; the client listens to `ablo:wake` by itself.

import { Ablo, defineSchema, field, model } from 'ablo-wasm';

const schema = defineSchema({ projects: model({ name: field.string(), color: field.string(), rank: field.number() }, {}, { typename: 'Project' }) });
// A key for development, from www/dev-keys.json. In an application `apiKey` is a function that asks your backend.
const ablo = Ablo({ schema, baseURL: location.origin, apiKey: 'ek_test_ada-demo' });
globalThis.ablo = ablo;

const show = (id, text) => (document.getElementById(id).textContent = text);
const showStatus = () => {
  const { state, reason } = ablo.status.connection;
  show('state', state);
  show('reason', reason ?? '–');
};
ablo.onStatus(showStatus);
showStatus();

let wakes = 0;
addEventListener('ablo:wake', () => show('wakes', (wakes += 1) === 1 ? 'once' : `${wakes} times`));

ablo.projects.onChange((projects) => show('projects', projects.map(({ name }) => name).join(', ') || 'none'));
document.getElementById('add').addEventListener('click', () => {
  ablo.projects.create({ data: { name: `Project ${ablo.projects.getCount() + 1}`, color: 'teal', rank: 0 } });
});
await ablo.ready();
