// In every page of a driven browser, before all other scripts: runs what a test evaluates, and keeps results, errors
// and calls to the outside until the test asks for them. It needs no network and no timers, as tests take both away.

(() => {
  const told = { results: [], calls: [], errors: [] };
  const calls = new Map();

  /** `undefined` has no JSON, and tests compare it. */
  const encode = (value) => JSON.stringify(value, (_, part) => {
    return part === undefined || typeof part === 'function' ? { $undefined: true } : part;
  });
  /** Only Chromium has the message in the stack. */
  const withStack = (error) => (error?.stack ? `${error.name}: ${error.message}\n${error.stack}` : String(error));
  const describe = (error) => ({
    name: error?.name ?? 'Error',
    message: String(error?.message ?? error),
    stack: withStack(error),
  });

  const add = (kind, text) => told.errors.push([kind, text]);
  addEventListener('error', ({ error, message }) => message && add('pageerror', error ? withStack(error) : message));
  addEventListener('unhandledrejection', ({ reason }) => add('pageerror', withStack(reason)));
  for (const [name, kind] of [['error', 'error'], ['warn', 'warning'], ['debug', 'debug'], ['info', 'info'], ['log', 'log']]) {
    const { [name]: original } = console;
    console[name] = (...args) => {
      add(kind, args.join(' '));
      original.apply(console, args);
    };
  }

  const agent = {
    start(id, source, input) {
      const work = async () => (0, eval)(`(${source})`)(input);
      work().then(
        (value) => told.results.push([id, undefined, encode(value)]),
        (error) => told.results.push([id, describe(error)]),
      );
    },
    expose(name) {
      globalThis[name] = (...args) => new Promise((resolve, reject) => {
        const id = crypto.getRandomValues(new Uint32Array(2)).join('-');
        calls.set(id, { resolve, reject });
        told.calls.push([id, name, args]);
      });
    },
    answer(id, message, value) {
      const { resolve, reject } = calls.get(id);
      calls.delete(id);
      if (message === null) resolve(value);
      else reject(new Error(message));
    },
    /** What there is to tell, as JSON: it is told once. */
    poll() {
      const text = JSON.stringify(told);
      for (const list of Object.values(told)) list.length = 0;
      return text;
    },
  };
  Object.defineProperty(globalThis, '__agent', { value: agent });
})();
