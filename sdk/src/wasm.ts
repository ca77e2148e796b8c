/**
 * Loads the WebAssembly module: once per page, when the first client needs it, never at import.
 *
 * A crash of the module (a Rust panic) ends every client of the page; whoever is registered here is told.
 */

import init, { Core, onPanic } from 'ablo-core';

// Types come from the boundary only: declarations that mention the generated module would be of no use to anybody.
import type { Core as CoreType, Host, WasmSource } from './boundary.js';
import { AbloConnectionError, AbloError } from './errors.js';

let loading: Promise<void> | undefined;
let crash: AbloError | undefined;
const watchers = new Set<(error: AbloError) => void>();

/** Loads the module unless that was done already. A failed attempt is not remembered. */
export function loadCore(source: WasmSource | undefined): Promise<void> {
  return (loading ??= start(source ?? new URL('./ablo_wasm_bg.wasm', import.meta.url)));
}

async function start(source: WasmSource): Promise<void> {
  try {
    await init({ module_or_path: source });
    onPanic(announceCrash);
  } catch (cause) {
    loading = undefined;
    throw new AbloConnectionError(`cannot load the WebAssembly module: ${String(cause)}`, {
      code: 'wasm_unavailable',
      retryable: true,
      cause,
    });
  }
}

/** Makes a core. Only after {@link loadCore}. */
export function createCore(config: string, host: Host): CoreType {
  if (crash !== undefined) throw crash;
  return new Core(config, crypto.getRandomValues(new Uint8Array(16)), host);
}

/** Registers for the news that the module has crashed. Returns the way out. */
export function onCrash(watcher: (error: AbloError) => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

function announceCrash(cause: Error): void {
  crash = new AbloError(`client crashed: ${cause.message}`, { code: 'client_crashed', cause });
  console.error(crash);
  for (const watcher of [...watchers]) watcher(crash);
}
