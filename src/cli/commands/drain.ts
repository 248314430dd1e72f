import type { DrainRequest, DrainResponse } from '../../admin/messages.ts';
import { AdminConnection } from '../admin/connection.ts';
import { counted, json } from '../admin/shown.ts';
import { adminTarget } from '../admin/target.ts';
import { print } from '../terminal.ts';
import type { OutputOptions } from './status.ts';

/** `hauberk drain`. */
export async function drain(options: OutputOptions & { readonly deadline?: number }): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const request: DrainRequest = options.deadline === undefined ? {} : { deadlineMs: options.deadline };
  const answer = await connection.call<DrainResponse>('Drain', request);
  const under = `${counted(answer.callsOpen, 'call')} ${answer.callsOpen === 1 ? 'is' : 'are'}`;
  if (options.output === 'json') print(json(answer, 2));
  else if (answer.wasDraining) print(`it is draining already; ${under} under way`);
  else print(`draining; ${under} under way. The sidecar stays until it gets a signal`);
}
