import type { AllowPeerResponse, ListBlockedPeersResponse, RevokeResponse } from '../../admin/messages.ts';
import { AdminConnection } from '../admin/connection.ts';
import { json } from '../admin/shown.ts';
import { table } from '../admin/table.ts';
import { adminTarget } from '../admin/target.ts';
import { columns, print } from '../terminal.ts';
import { showRevocation } from './revoke.ts';
import type { OutputOptions } from './status.ts';

/** `hauberk peers blocked`. */
export async function listBlocked(options: OutputOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const answer = await connection.call<ListBlockedPeersResponse>('ListBlockedPeers', {});
  if (options.output === 'json') {
    print(json(answer, 2));
    return;
  }
  const rows = answer.blocked.map(({ peer, since, reason }) => [peer, since, reason]);
  print(table([['PEER', 'SINCE', 'REASON'], ...rows], { columns: columns(), elastic: 0 }));
}

/** `hauberk peers block`. */
export async function blockPeer(
  peer: string,
  options: OutputOptions & { readonly reason: string },
): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const { reason } = options;
  showRevocation(await connection.call<RevokeResponse>('BlockPeer', { peer, reason }), options.output);
}

/** `hauberk peers allow`. */
export async function allowPeer(peer: string, options: OutputOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const answer = await connection.call<AllowPeerResponse>('AllowPeer', { peer });
  if (options.output === 'json') print(json(answer, 2));
  else if (answer.was === null) print(`${peer} was not blocked`);
  else print(`allowed again; it was blocked since ${answer.was.since} (${answer.was.reason})`);
}
