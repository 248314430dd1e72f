/** A time as the API's MicroTime: RFC 3339 with microseconds, in UTC. `ms` is since the epoch. */
export const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z');
