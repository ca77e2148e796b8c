/**
 * Entry `ablo-wasm/schema`: for schema files that servers and build scripts share with the application. It has all that the
 * main entry has, which loads nothing when it is imported: a list of names would be another file to load and to keep.
 */

export * from './index.js';
