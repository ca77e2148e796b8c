// The few lines that this page needs instead of a framework.

/**
 * Makes an element.
 *
 * @example h('button', { class: 'plain', onclick: save }, icon('check'), 'Save')
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

const ICONS = {
  plus: 'M8 3.5v9M3.5 8h9',
  close: 'M4.5 4.5l7 7M11.5 4.5l-7 7',
  trash: 'M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 8.5h6l.5-8.5M6.8 7v3.8M9.2 7v3.8',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  spark: 'M8 2v3M8 11v3M2 8h3M11 8h3M3.8 3.8l2 2M10.2 10.2l2 2M12.2 3.8l-2 2M5.8 10.2l-2 2',
  stop: 'M5 5h6v6H5z',
  window: 'M6.5 3H3v10h10V9.5M9 3h4v4M13 3L7.5 8.5',
  clock: 'M8 4.5V8l2.2 1.6M8 2a6 6 0 100 12A6 6 0 008 2z',
  check: 'M3.5 8.5l3 3 6-7',
  up: 'M4 9.5L8 5.5l4 4',
  device: 'M8 2.5v6.5M5.2 6.4L8 9.2l2.8-2.8M3 10.8v2.7h10v-2.7',
  send: 'M8 13V6.5M5.2 9.1L8 6.3l2.8 2.8M3 3.2h10',
  tray: 'M2.5 9.2l1.8-5.7h7.4l1.8 5.7v3.8h-11zM2.5 9.2h3.2l.9 1.5h2.8l.9-1.5h3.2',
  open: 'M9.5 3H13v3.5M13 3L8.8 7.2M6.5 13H3V9.5M3 13l4.2-4.2',
  undo: 'M5.5 3.5L2.8 6.2l2.7 2.7M3 6.2h6.5a3.5 3.5 0 010 7H6.5',
  redo: 'M10.5 3.5l2.7 2.7-2.7 2.7M13 6.2H6.5a3.5 3.5 0 000 7h3',
  alert: 'M8 5.2v3.4M8 10.7v.1M8 2a6 6 0 100 12A6 6 0 008 2z',
};

/** An icon of the set above, 16 by 16, in the colour of the text. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('icon');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** The ring, half disc and tick that stand for a status. */
export function statusIcon(status) {
  return h('span', { class: 'ring', 'data-status': status, 'aria-hidden': 'true' }, status === 'done' ? icon('check') : null);
}

/** Runs `work` once before the next frame, however often it is asked to. Hidden tabs have no frames: they get a timer. */
export function oncePerFrame(work) {
  let asked = false;
  const run = () => {
    asked = false;
    work();
  };
  return () => {
    if (asked) return;
    asked = true;
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}

/** Runs `work` now and then: at once when it is asked to after a pause, and at most every `pause` milliseconds. */
export function nowAndThen(pause, work) {
  let timer;
  let again = false;
  const run = () => {
    again = false;
    work();
    timer = setTimeout(() => {
      timer = undefined;
      if (again) run();
    }, pause);
  };
  return () => (timer === undefined ? run() : (again = true));
}

/** 12345 as people write it. */
export const number = (value) => value.toLocaleString('en-US');

/**
 * Lets the text of `element` be edited in place. Enter and leaving keep the text, Escape drops it.
 *
 * @param keep called with the new text when it is not empty and not the old one
 */
export function editText(element, text, label, keep) {
  const input = h('textarea', { class: 'edit', rows: 1, 'aria-label': label, maxlength: 500 });
  let open = true;
  const close = (save) => {
    if (!open) return;
    open = false;
    const next = input.value.replace(/\s+/g, ' ').trim();
    const hadFocus = document.activeElement === input;
    input.replaceWith(element);
    if (hadFocus) (element.closest('.card') ?? element).focus({ preventScroll: true });
    if (save && next !== '' && next !== text) keep(next);
  };
  input.value = text;
  input.addEventListener('keydown', (event) => {
    event.stopPropagation();
    if (event.isComposing) return;
    if (event.key === 'Enter') event.preventDefault();
    if (event.key === 'Enter' || event.key === 'Escape') close(event.key === 'Enter');
  });
  input.addEventListener('blur', () => close(true));
  element.replaceWith(input);
  input.select();
  input.focus();
  return () => close(true);
}
