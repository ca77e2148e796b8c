/** The module that wasm-bindgen generates, with `--target web`. The build resolves the name. */
declare module 'ablo-core' {
  export const Core: typeof import('./boundary.js').Core;
  export const onPanic: typeof import('./boundary.js').onPanic;
  /** Compiles and starts the module, once per page. */
  export default function init(options: {
    module_or_path: URL | string | BufferSource | WebAssembly.Module | Response | Promise<Response>;
  }): Promise<unknown>;
}
