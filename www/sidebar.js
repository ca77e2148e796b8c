// Projects, the data sets, and who is signed in.

import { h, icon, number } from './dom.js';
import { avatar, PEOPLE } from './people.js';
import { addressOf, DATA_SETS, place } from './session.js';
import { COLORS } from './schema.js';

export class Sidebar {
  #ablo;
  #open;
  #list = h('ul', { class: 'projects' });
  #facts = h('p', { class: 'facts' });
  #projects = [];
  #current;

  /**
   * @param open called with the id of the project that is chosen
   * @param created called when a new one has been opened
   * @param storage an element with the state of the storage
   */
  constructor(ablo, { open, created, failed, storage }) {
    this.#ablo = ablo;
    this.#open = open;
    const data = h(
      'select',
      { id: 'data', onchange: () => location.assign(addressOf({ data: data.value })) },
      ...Object.entries(DATA_SETS).map(([key, { label }]) => h('option', { value: key, selected: key === place.data }, label)),
    );
    const other = place.user === 'ada' ? 'grace' : 'ada';
    this.element = h(
      'nav',
      { class: 'sidebar', 'aria-label': 'Projects', id: 'sidebar' },
      h('a', { class: 'brand', href: addressOf({}) }, h('span', { class: 'mark', 'aria-hidden': 'true' }), 'Ablo', h('small', {}, 'demo')),
      h('div', { class: 'section' }, h('h2', {}, 'Projects'), this.#adder(created, failed)),
      this.#list,
      h(
        'div',
        { class: 'bottom' },
        h('label', { for: 'data' }, 'Data set'),
        h('span', { class: 'select' }, data),
        this.#facts,
        storage,
        h('a', { class: 'row', href: addressOf({ user: other }), target: '_blank' }, icon('window'), `New window as ${PEOPLE[other].name.split(' ')[0]}`),
        h('div', { class: 'row me' }, avatar(place.user), h('span', {}, PEOPLE[place.user].name)),
      ),
    );
  }

  #adder(created, failed) {
    return h(
      'button',
      {
        class: 'plain',
        type: 'button',
        'aria-label': 'New project',
        onclick: async () => {
          const { length } = this.#projects;
          const rank = (this.#projects.at(-1)?.rank ?? 0) + 1;
          try {
            const project = await this.#ablo.projects.create({ data: { name: 'New project', color: COLORS[length % COLORS.length], rank } });
            this.#open(project.id);
            created();
          } catch (error) {
            failed(error);
          }
        },
      },
      icon('plus'),
    );
  }

  /** Shows the projects; called with the rows of a live list. */
  show(projects, current) {
    this.#projects = projects;
    this.#current = current;
    const known = new Map([...this.#list.children].map((item) => [item.dataset.id, item]));
    this.#list.replaceChildren(...projects.map((project) => this.#item(project, known.get(project.id))));
    for (const item of this.#list.children) item.firstChild.setAttribute('aria-current', String(item.dataset.id === current));
  }

  #item(project, item = h('li', { 'data-id': project.id })) {
    if (item.row !== project) {
      item.row = project;
      item.replaceChildren(
        h(
          'button',
          { type: 'button', class: 'project', onclick: () => this.#open(project.id) },
          h('i', { class: 'swatch', 'data-color': project.color, 'aria-hidden': 'true' }),
          h('span', { class: 'name' }, project.name),
          h('span', { class: 'count' }),
        ),
      );
    }
    return item;
  }

  /** Counts the open tasks of the projects that are not on the board. */
  count() {
    const { tasks } = this.#ablo;
    for (const { id } of this.#projects) {
      if (id === this.#current) continue;
      this.showOpen(id, tasks.getCount({ where: { projectId: id } }) - tasks.getCount({ where: { projectId: id, status: 'done' } }));
    }
  }

  showOpen(id, count) {
    this.#list.querySelector(`li[data-id="${CSS.escape(id)}"] .count`)?.replaceChildren(count === 0 ? '' : number(count));
  }

  /** A line for the curious. */
  tell(text) {
    this.#facts.textContent = text;
  }
}
