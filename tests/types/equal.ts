/** A statement about types: an error unless `A` and `B` are the same type. */
export function equal<A, B>(
  _same: (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false,
): void {}
