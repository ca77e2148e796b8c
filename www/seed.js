// Fills an empty data set. All writes are commits of up to 1,000 rows with fixed ids and idempotency keys, so two tabs that
// do this at once, or one that is reloaded half-way, leave the same rows.

import { PEOPLE } from './people.js';
import { COLORS } from './schema.js';
import { DATA_SETS } from './session.js';

const ROWS_PER_COMMIT = 1000;

const EXAMPLES = {
  'Website relaunch': [
    'Write the new landing page copy|doing|high|ada',
    'Pick photographs for the team page|todo|normal|grace',
    'Measure first load on a slow phone|doing|high|alan',
    'Move the blog to the new layout|todo|normal|katherine',
    'Redirect the old documentation addresses|todo|low|',
    'Check contrast in the dark theme|done|normal|ada',
    'Compress the hero video|done|low|alan',
    'Replace the cookie banner with nothing at all|done|high|grace',
    'Add structured data to the pricing page|todo|low|',
    'Test the sign-up form with a screen reader|doing|normal|katherine',
    'Agree on the release date with support|todo|high|grace',
    'Draw the new icon set|done|normal|katherine',
  ],
  'Mobile app': [
    'Keep drafts when the phone goes offline|doing|high|grace',
    'Shrink the install size below 20 MB|todo|normal|alan',
    'Swipe to archive|todo|low|',
    'Larger touch targets in the list|done|normal|ada',
    'Crash when the keyboard opens in landscape|doing|high|alan',
    'Widgets for the lock screen|todo|low|katherine',
    'Ask for notifications at a better moment|todo|normal|ada',
    'Haptics for completed tasks|done|low|katherine',
    'Write the release notes for 3.2|todo|normal|',
  ],
  'Customer research': [
    'Call five people who cancelled in May|doing|high|katherine',
    'Summarise the onboarding interviews|todo|high|ada',
    'Invite the beta group to a workshop|todo|normal|grace',
    'Read last month’s support conversations|done|normal|katherine',
    'Draft the survey on offline use|doing|normal|ada',
    'Compare our wording with what customers say|todo|low|',
    'Publish the findings for everyone|todo|normal|grace',
  ],
  Infrastructure: [
    'Rehearse a restore from last night’s backup|doing|high|alan',
    'Alert on slow commits, not on busy processors|todo|high|grace',
    'Rotate the signing keys|done|high|alan',
    'Retire the old queue|todo|normal|',
    'Document how to read a trace|todo|low|katherine',
    'Halve the build time|doing|normal|ada',
    'Test what happens when a region goes away|todo|high|grace',
    'Remove the staging exceptions|done|normal|grace',
    'Update the load test to real row sizes|done|low|alan',
    'Write down who is on call in August|todo|normal|katherine',
  ],
  'Summer party': [
    'Find a place near the water|done|high|grace',
    'Ask who does not eat what|doing|normal|ada',
    'Build the playlist|todo|low|alan',
    'Borrow the projector|todo|low|',
    'Send invitations|done|normal|ada',
  ],
};

const VERBS = ['Review', 'Fix', 'Design', 'Measure', 'Document', 'Test', 'Simplify', 'Ship', 'Rename', 'Profile', 'Translate', 'Remove'];
const THINGS = ['the invoice export', 'search results', 'the settings page', 'retry logic', 'the mobile header', 'audit entries'];
const MORE_THINGS = ['onboarding mails', 'the colour picker', 'date parsing', 'the import wizard', 'empty states', 'keyboard shortcuts'];
const REASONS = ['before the release', 'for slow networks', 'after the incident', 'with the support team', 'in all languages', ''];

/** @param progress called with the share that is done, 0 to 1 */
export async function fill(ablo, name, progress) {
  const { tasks } = DATA_SETS[name];
  const rows = name === 'demo' ? exampleRows() : loadRows(tasks);
  for (let from = 0; from < rows.length; from += ROWS_PER_COMMIT) {
    const operations = rows.slice(from, from + ROWS_PER_COMMIT);
    await ablo.commits.create({ operations, idempotencyKey: `fill-${name}-${from}` });
    progress(Math.min(1, (from + ROWS_PER_COMMIT) / rows.length));
  }
}

function exampleRows() {
  const names = Object.keys(EXAMPLES);
  const projects = names.map((project, at) => create('projects', `p${at}`, { name: project, color: COLORS[at], rank: at }));
  const tasks = names.flatMap((project, at) =>
    EXAMPLES[project].map((line, index) => {
      const [title, status, priority, assignee] = line.split('|');
      const data = { title, status, priority, rank: index, projectId: `p${at}` };
      return create('tasks', `p${at}-t${index}`, assignee ? { ...data, assignee } : data);
    }),
  );
  return [...projects, ...tasks];
}

function loadRows(count) {
  const random = generator(count);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const people = [...Object.keys(PEOPLE), undefined];
  const rows = [create('projects', 'load', { name: 'Load test', color: 'sky', rank: 0 })];
  for (let at = 1; at <= count; at += 1) {
    const title = `${pick(VERBS)} ${pick(random() < 0.5 ? THINGS : MORE_THINGS)} ${pick(REASONS)}`.trim();
    const data = { title: `${title} #${at}`, status: pick(['todo', 'todo', 'doing', 'done', 'done']), rank: at, projectId: 'load' };
    rows.push(create('tasks', `load-${at}`, { ...data, priority: pick(['low', 'normal', 'normal', 'high']), assignee: pick(people) }));
  }
  return rows;
}

const create = (model, id, data) => ({ action: 'create', model, id, data });

/** Numbers from 0 to 1, the same ones each time (mulberry32). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
