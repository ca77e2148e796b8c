/** Instead of the core, for a client that must not load it. */

const refuse = () => {
  throw new Error('the stateless client has loaded the core');
};

export default refuse;
export const onPanic = refuse;
export class Core {
  constructor() {
    refuse();
  }
}
