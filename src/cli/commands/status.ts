import type { StatusMessage } from '../../admin/messages.ts';
import { systemClock } from '../../clock/clock.ts';
import { AdminConnection } from '../admin/connection.ts';
import { counted, isoTime, json, millisecondsOf, octets, span } from '../admin/shown.ts';
import { table } from '../admin/table.ts';
import { adminTarget, type TargetOptions } from '../admin/target.ts';
import { print } from '../terminal.ts';

export interface OutputOptions extends TargetOptions {
  readonly output: 'table' | 'json';
}

/** `hauberk status`. */
export async function status(options: OutputOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const message = await connection.call<StatusMessage>('GetStatus', {});
  print(options.output === 'json' ? json(message, 2) : describe(message));
}

function identity(status: StatusMessage, now: number): Array<[string, string]> {
  const { identityExpiresAt, identityRotations, identityRotatedAt, identityRenewsAt, identityRefusal } =
    status;
  const { spiffeId, identityRenewalFailure } = status;
  if (spiffeId === '') return [['identity', `none yet: ${identityRenewalFailure}`]];
  const left = millisecondsOf(identityExpiresAt) - now;
  const until = [`until ${isoTime(identityExpiresAt)}, ${left > 0 ? `${span(left)} left` : 'expired'}`];
  if (identityRotatedAt) {
    until.push(
      `${counted(identityRotations, 'rotation')}, the last ${span(now - millisecondsOf(identityRotatedAt))} ago`,
    );
  }
  if (identityRenewsAt) until.push(`renewed here at ${isoTime(identityRenewsAt)}`);
  const rows: Array<[string, string]> = [['identity', until.join('; ')]];
  if (identityRefusal) rows.push(['', `its files are refused: ${identityRefusal}`]);
  if (identityRenewalFailure) rows.push(['', `its renewal fails: ${identityRenewalFailure}`]);
  return rows;
}

function describe(status: StatusMessage): string {
  const { sessions, callsOpen } = status;
  const now = systemClock.now();
  const state = status.draining
    ? 'draining'
    : status.ready
      ? 'ready'
      : `waits for ${status.pending.join(', ')}`;
  const closed = Object.entries(sessions.closed).map(([reason, count]) => `${count} ${reason}`);
  const rows: Array<[string, string]> = [
    ['sidecar', status.spiffeId || 'not known yet'],
    ['state', state],
    ['version', `${status.version}, pid ${status.pid}, run ${status.instance}`],
    ['up', `${span(now - millisecondsOf(status.startedAt))}, since ${isoTime(status.startedAt)}`],
    ...identity(status, now),
    [
      'sessions',
      `${sessions.active} of ${sessions.max}: ${sessions.inbound} inbound, ${sessions.outbound} outbound, ${counted(sessions.peers, 'peer')}${status.peersBlocked > 0 ? `; ${counted(status.peersBlocked, 'peer')} blocked` : ''}`,
    ],
    [
      '',
      `${sessions.created} since the start, ${sessions.refused} refused${closed.length > 0 ? `; ended: ${closed.join(', ')}` : ''}`,
    ],
    ['calls', `${callsOpen.egress} from apps, ${callsOpen.ingress} from peers under way`],
    ['memory', octets(status.memoryBytes)],
    ['lag', `${status.eventLoopLagMs.toFixed(1)} ms`],
    ...status.listeners.map(({ name, address }): [string, string] => ['listens', `${address} (${name})`]),
    ...status.auditAdapters.map((adapter): [string, string] => [
      'audit',
      `${adapter.name}: ${adapter.state}, ${adapter.queued} queued, ${adapter.delivered} delivered, ${adapter.dropped} dropped${adapter.lastError === '' ? '' : `; last error: ${adapter.lastError}`}`,
    ]),
  ];
  return table(rows.map(([name, text]) => [name === '' ? ' ' : name, text]));
}
