// The main process: one window, and the wake-up of the computer for the client in it.

const { app, BrowserWindow, powerMonitor, webContents } = require('electron');
const { forwardPowerEvents, preloadPath } = require('ablo-wasm/electron');

/** Where the page is served, beside the API. `npm run server` listens there. */
const PAGE = process.env.PAGE ?? 'http://127.0.0.1:8787/';

app.whenReady().then(() => {
  forwardPowerEvents({ powerMonitor, webContents });
  open();
  // On macOS an application without windows goes on, and a click on its icon is to show one.
  app.on('activate', () => BrowserWindow.getAllWindows().length === 0 && open());
});

app.on('window-all-closed', () => process.platform !== 'darwin' && app.quit());

function open() {
  const window = new BrowserWindow({
    width: 480,
    height: 560,
    // The first two are what Electron does anyway. They are spelled out because nothing here needs less.
    webPreferences: { contextIsolation: true, sandbox: true, preload: preloadPath },
  });
  // The window shows this page and nothing else.
  window.webContents.setWindowOpenHandler(() => ({ action: 'deny' }));
  window.webContents.on('will-navigate', (event) => event.preventDefault());
  window.loadURL(PAGE);
}
