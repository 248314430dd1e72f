import type { Pair } from './pair.ts';

/** No proxies: what the client and the back end can do by themselves. */
export const direct: Pair = {
  name: 'direct',
  start: async ({ backendPort }) => ({ name: 'direct', port: backendPort, pids: [] }),
};
