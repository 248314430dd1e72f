import type { RevokeResponse, RevokeSessionsRequest } from '../../admin/messages.ts';
import { AdminConnection } from '../admin/connection.ts';
import { counted, json } from '../admin/shown.ts';
import { table } from '../admin/table.ts';
import { adminTarget } from '../admin/target.ts';
import { columns, print, printError } from '../terminal.ts';
import { type FilterOptions, filterOf } from './sessions.ts';
import type { OutputOptions } from './status.ts';

export interface RevokeOptions extends OutputOptions, FilterOptions {
  readonly reason: string;
  readonly all: boolean;
  readonly block: boolean;
}

/** `hauberk sessions revoke`. */
export async function revokeSessions(ids: readonly string[], options: RevokeOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const { peer, service, direction, state, metadata, olderThan, idleFor, all, block, reason } = options;
  const criteria = [peer, service, direction, state, metadata, olderThan, idleFor];
  const request: RevokeSessionsRequest = {
    ids,
    filter: criteria.every((given) => given === undefined) ? null : filterOf(options),
    all,
    blockPeers: block,
    reason,
  };
  showRevocation(await connection.call<RevokeResponse>('RevokeSessions', request), options.output);
}

/** The receipts of what was cut and blocked. */
export function showRevocation(response: RevokeResponse, output: OutputOptions['output']): void {
  const { sessions, sessionsCut, unknownIds, cutMicros, blocked, hold, holdDetail } = response;
  if (output === 'json') print(json(response, 2));
  else {
    const head = ['ID', 'PEER', 'RECORDS', 'LAST RECORD', 'CALLS CUT', 'CUT AFTER', 'MAY RETURN'];
    const rows = sessions.map((receipt) => [
      receipt.sessionId,
      receipt.peer,
      String(receipt.recordsAccepted),
      receipt.connections.map(({ remote, lastRecord }) => `${lastRecord} of ${remote}`).join(', '),
      String(receipt.callsCut),
      `${receipt.cutMicros} us`,
      receipt.mayReturn ? 'yes' : 'no',
    ]);
    if (rows.length > 0) print(table([head, ...rows], { columns: columns(), elastic: head.indexOf('PEER') }));
    const more = sessionsCut > rows.length ? `; the audit has the other ${sessionsCut - rows.length}` : '';
    print(`${counted(sessionsCut, 'session')} cut in ${cutMicros} us${more}`);
    for (const { peer } of blocked) print(`blocked: ${peer}`);
  }
  for (const id of unknownIds) printError(`hauberk: there is no session ${id}, or it had ended`);
  if (hold === 'UNTIL_RESTART') {
    printError(`hauberk: the block holds only until the sidecar ends: ${holdDetail}`);
  }
}
