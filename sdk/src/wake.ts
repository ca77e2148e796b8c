/** The name that Electron's main process and a page agree on. */

/** The message between the two, and the event that clients listen to. */
export const WAKE = 'ablo:wake';
