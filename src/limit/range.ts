/** The shortest window, in milliseconds. */
export const SHORTEST_WINDOW_MS = 100;
/** Node's longest timer, by which the memory counter frees a window. */
const LONGEST_WINDOW_MS = 2 ** 31 - 1;

/** Which part of a limit cannot work, if one cannot. */
export function wrongLimit(limit: {
  readonly maxRequests: number;
  readonly windowMs: number;
}): 'maxRequests' | 'windowMs' | undefined {
  const { maxRequests, windowMs } = limit;
  if (!Number.isSafeInteger(maxRequests) || maxRequests < 1) return 'maxRequests';
  if (!(windowMs >= SHORTEST_WINDOW_MS && windowMs <= LONGEST_WINDOW_MS)) return 'windowMs';
  return undefined;
}
