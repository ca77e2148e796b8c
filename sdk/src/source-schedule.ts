/** When a source connector dials again: a matter of numbers, with no clock and no randomness of its own. */

/**
 * Pauses before attempts to connect, in milliseconds: the first is for the first attempt and for the one after a
 * connection that worked, the others follow with every failure in a row. The last one repeats.
 */
export const DEFAULT_RECONNECT_SCHEDULE: readonly number[] = Object.freeze([0, 1000, 2000, 5000, 10_000, 30_000]);

/** A connection that was ready for less than this, in milliseconds, is not one that worked when it happens again. */
export const STABLE_AFTER_MS = 5000;

/** What the connections so far were like. */
export interface Attempts {
  /** Failures in a row: attempts that never became ready. */
  readonly failures: number;
  /** Connections in a row, failures aside, that became ready and ended soon after. */
  readonly brief: number;
}

/** Before the first attempt. */
export const NO_ATTEMPTS: Attempts = { failures: 0, brief: 0 };

/** Counts a connection that has ended. `readyMs`: how long it was ready, undefined when it never was. */
export function afterConnection({ failures, brief }: Attempts, readyMs: number | undefined): Attempts {
  if (readyMs === undefined) return { failures: failures + 1, brief };
  return { failures: 0, brief: readyMs < STABLE_AFTER_MS ? brief + 1 : 0 };
}

/**
 * The pause before the next attempt, in milliseconds: that of the schedule, give or take the share `jitter` of it.
 * `random` is from 0 up to 1. After a connection that was ready the next attempt comes at once; a service that lets in
 * and drops time after time is asked with growing pauses, like one that does not let in.
 */
export function pauseBefore(
  { failures, brief }: Attempts,
  schedule: readonly number[],
  jitter: number,
  random: number,
): number {
  const step = Math.min(failures + Math.max(0, brief - 1), schedule.length - 1);
  return Math.round((schedule[step] ?? 0) * (1 + jitter * (2 * random - 1)));
}
