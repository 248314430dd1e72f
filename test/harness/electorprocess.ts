/**
 * One elector as a process of its own: `electorprocess.ts ACCESS NAME`, ACCESS being a KubeAccess in JSON. Each line that
 * it writes is when and whether it leads, looked at every few milliseconds; SIGTERM has it stop in order.
 */
import { systemClock } from '../../src/clock/clock.ts';
import type { KubeAccess } from '../../src/config/incluster.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { LeaderElection } from '../../src/kube/lease.ts';

const [access, name] = process.argv.slice(2) as [string, string];
const client = openKubeClient({ access: JSON.parse(access) as KubeAccess, clock: systemClock });
const election = new LeaderElection({
  client,
  clock: systemClock,
  namespace: 'ns',
  name: 'lease',
  identity: name,
  durationMs: 2000,
  renewMs: 1200,
  retryMs: 200,
});
election.start();

const timer = setInterval(() => {
  // The time first: who is stopped between the two has looked later than it says, not earlier.
  const at = Date.now();
  process.stdout.write(`${at} ${election.isLeader ? 'leads' : 'follows'}\n`);
}, 5);

process.on('SIGTERM', () => {
  void election.stop().then(() => {
    clearInterval(timer);
    client.close();
    process.exit(0);
  });
});
