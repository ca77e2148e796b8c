/** The boundary as the SDK declares it by hand is the one that wasm-bindgen generates from the core. */

import type * as declared from '../../sdk/src/boundary.js';
import type * as generated from '../../target/wasm-bindgen/ablo_wasm.js';

type Declared = Required<InstanceType<typeof declared.Core>>;
type Generated = Omit<InstanceType<typeof generated.Core>, typeof Symbol.dispose>;

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/**
 * Generated parameters as the boundary writes them: any is an object of ours, null is undefined, arrays need not be
 * taken.
 */
type Plain<P extends readonly unknown[], D extends readonly unknown[]> = {
  [I in keyof P]: 0 extends 1 & P[I]
    ? D[I & keyof D]
    : Exclude<P[I], null | number[]> | (null extends P[I] ? undefined : never);
};
type Agree<D, G> = D extends (...args: infer DP) => infer DR
  ? G extends (...args: infer GP) => infer GR
    ? DP extends GP
      ? Same<[DP, DR], [Plain<Required<GP>, DP>, GR]>
      : false
    : false
  : false;
type Drifted<D, G> = { [K in keyof D & keyof G]: Agree<D[K], G[K]> extends true ? never : K }[keyof D & keyof G];

/** Nothing may be listed here; what is, the compiler names as a missing property. */
export const onlyDeclared: Record<Exclude<keyof Declared, keyof Generated>, string> = {};
export const onlyGenerated: Record<Exclude<keyof Generated, keyof Declared>, string> = {};
export const drifted: Record<Drifted<Declared, Generated>, string> = {};

type Construct<C> = C extends new (...args: infer P) => unknown ? (...args: P) => void : never;
export const constructors: Agree<Construct<typeof declared.Core>, Construct<typeof generated.Core>> = true;

// The generated callback is any Function, so only this direction says something.
type Accepts<D extends (...args: never) => unknown, G extends (...args: never) => unknown> =
  Parameters<D> extends Parameters<G> ? Same<ReturnType<D>, ReturnType<G>> : false;
export const panics: Accepts<typeof declared.onPanic, typeof generated.onPanic> = true;
