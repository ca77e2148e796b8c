/**
 * Entry `ablo-wasm/electron`, for the main process of an Electron application: tells the clients in its windows that the
 * computer woke up. Built as CommonJS, which every main process can load, whether by `require` or by `import`.
 *
 * Electron is not imported but passed in, so that this works with any version and needs none to be installed.
 */

import { WAKE } from './wake.js';

/** As in every CommonJS module: the types of Node are not needed for it. */
declare const __dirname: string;

/** What is used of Electron's `powerMonitor`. */
export interface PowerMonitor {
  on(event: 'resume', listener: () => void): unknown;
  on(event: 'unlock-screen', listener: () => void): unknown;
  removeListener(event: 'resume', listener: () => void): unknown;
  removeListener(event: 'unlock-screen', listener: () => void): unknown;
}

/** What is used of one of Electron's web contents. */
export interface WebContents {
  isDestroyed(): boolean;
  send(channel: string): void;
}

/** What is used of the module `electron`: both are exported by it under these names. */
export interface ElectronMain {
  readonly powerMonitor: PowerMonitor;
  readonly webContents: { getAllWebContents(): readonly WebContents[] };
}

/**
 * The file of the preload script, for `webPreferences.preload` or `session.registerPreloadScript`. It needs nothing but
 * Electron, so it runs in the sandbox as it is. In a bundled main process name the file of your own copy instead.
 *
 * @example
 * const { BrowserWindow } = require('electron');
 * const { preloadPath } = require('ablo-wasm/electron');
 *
 * new BrowserWindow({ webPreferences: { preload: preloadPath } });
 */
export const preloadPath = `${__dirname}/electron-preload.cjs`;

/**
 * Tells every page with the preload script, now and later, when the computer resumes or its screen is unlocked. Call it
 * once `app` is ready. Returns the way to stop.
 *
 * @example
 * const { app, powerMonitor, webContents } = require('electron');
 * const { forwardPowerEvents } = require('ablo-wasm/electron');
 *
 * app.whenReady().then(() => forwardPowerEvents({ powerMonitor, webContents }));
 */
export function forwardPowerEvents({ powerMonitor, webContents }: ElectronMain): () => void {
  const wake = (): void => {
    // Asked for each time: windows come and go. Views and `<webview>` are among them, which a list of windows lacks.
    for (const contents of webContents.getAllWebContents()) {
      try {
        if (!contents.isDestroyed()) contents.send(WAKE);
      } catch {
        // It went away meanwhile. The others are to hear of it.
      }
    }
  };
  powerMonitor.on('resume', wake);
  powerMonitor.on('unlock-screen', wake);
  return () => {
    powerMonitor.removeListener('resume', wake);
    powerMonitor.removeListener('unlock-screen', wake);
  };
}
