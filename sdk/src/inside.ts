/** How an entry of its own that works on a live client gets at what the client is made of. Types, and one name. */

import type { Session } from './session.js';
import type { Kit } from './stateless.js';

/** What a client has under {@link INSIDE}. Nothing secret: whoever has the client can reach it. */
export interface Inside {
  readonly session: Session;
  readonly KIT: Kit;
  readonly baseUrl: string;
  /** Whether what is stored must be encrypted. */
  readonly isEncrypted: boolean;
}

/** A symbol, so that it is no name for a model, and the same in every file of the package. */
export const INSIDE = Symbol.for('ablo:inside');
