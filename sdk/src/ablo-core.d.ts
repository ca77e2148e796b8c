/** The module that wasm-bindgen generates, with `--target web`. The build resolves the name. */
/**
 * Whether rows and writes can be kept on the device. The build says so (docs/decisions/size.md): what the package is
 * built without is not in it.
 */
declare const STORAGE: boolean;

declare module 'ablo-core' {
  export const Core: typeof import('./boundary.js').Core;
  export const onPanic: typeof import('./boundary.js').onPanic;
  /** Compiles and starts the module, once per page. */
  export default function init(options: {
    module_or_path: URL | string | BufferSource | WebAssembly.Module | Response | Promise<Response>;
  }): Promise<unknown>;
}
