/**
 * The books of a call, laid side by side: what its client sent and got, what both sidecars audited, what the app saw. It
 * has either happened once, whole, or ended UNAVAILABLE with no more than a beginning of it anywhere.
 */
import { status } from '@grpc/grpc-js';
import { expect } from 'vitest';
import type { AuditEventOf } from '../../src/audit/event.ts';
import type { AuditFile } from './auditfile.ts';
import { type CallKind, type Entry, idOf, type Ledger, numbered, readOrder } from './ledger.ts';
import type { SidecarProcess } from './sidecars.ts';

/** What a client knows of a call of its own. */
export interface ClientCall {
  readonly kind: CallKind;
  /** Messages that it handed to its library. */
  readonly sent: readonly Buffer[];
  readonly halfClosed: boolean;
  readonly code: number;
  readonly details: string;
  readonly received: readonly Buffer[];
}

type Completed = AuditEventOf<'call.completed'>;

export interface Books {
  readonly client: ReadonlyMap<string, ClientCall>;
  readonly egress: readonly Completed[];
  readonly ingress: readonly Completed[];
  readonly app: Ledger;
}

export interface Balance {
  /** What is wrong, a line each. */
  readonly wrong: readonly string[];
  readonly answered: number;
  readonly unavailable: number;
  /** Those of the unavailable that the app has answered. */
  readonly unheard: number;
}

const MESSAGE_PREFIX = 5; // octets: gRPC's flag and length

/** All calls that have ended at a sidecar, once none is under way there. */
export async function completedAt(sidecar: SidecarProcess, audit: AuditFile): Promise<Completed[]> {
  await expect.poll(() => sidecar.metric('hauberk_calls_open'), { timeout: 20_000 }).toBe(0);
  const count = await sidecar.metric('hauberk_calls_total');
  return audit.events('call.completed', count);
}

export function balance({ client, egress, ingress, app }: Books): Balance {
  const wrong: string[] = [];
  const [near, far] = [byCall(egress), byCall(ingress)];
  let [answered, unheard] = [0, 0];
  for (const [id, call] of client) {
    const [at, beyond] = [near.get(id) ?? [], far.get(id) ?? []];
    if (call.code === status.OK) answered++;
    else if (beyond[0]?.grpcStatus === status.OK) unheard++;
    for (const what of [...callAndApp(call, app.of(id)), ...callAndAudit(call, at, beyond, app.of(id))]) {
      wrong.push(`${id}, ${status[call.code]} ${call.details}: ${what}`);
    }
    near.delete(id);
    far.delete(id);
  }
  for (const id of new Set([...near.keys(), ...far.keys()])) wrong.push(`${id}: nobody made this call`);
  return { wrong, answered, unavailable: client.size - answered, unheard };
}

function byCall(events: readonly Completed[]): Map<string, Completed[]> {
  const calls = new Map<string, Completed[]>();
  for (const event of events) {
    const id = idOf(event.method);
    calls.set(id, [...(calls.get(id) ?? []), event]);
  }
  return calls;
}

function callAndApp(call: ClientCall, entry: Entry | undefined): string[] {
  const { code, sent, received } = call;
  const wrong: string[] = [];
  if (code !== status.OK && code !== status.UNAVAILABLE) wrong.push('neither answered nor UNAVAILABLE');
  const answers = answersOf(call, entry);
  if (entry !== undefined) {
    if (entry.times !== 1) wrong.push(`came to the app ${entry.times} times`);
    if (!isPrefix(entry.received, sent)) wrong.push('the app got other messages than were sent');
    if (entry.halfClosed && (!call.halfClosed || entry.received.length < sent.length)) {
      wrong.push(`the app saw an end after ${entry.received.length} of ${sent.length} messages`);
    }
  }
  if (!isPrefix(received, answers)) wrong.push('the client got other messages than the app sent');
  if (code === status.OK) {
    if (entry === undefined) wrong.push('answered, and the app knows nothing of it');
    else if (!entry.halfClosed) wrong.push('answered before its end');
    if (received.length !== answers.length)
      wrong.push(`ended well with ${received.length} of ${answers.length} messages`);
  }
  return wrong;
}

/** What the app has to say, as far as it came. */
function answersOf({ kind, sent }: ClientCall, entry: Entry | undefined): Buffer[] {
  if (entry === undefined) return [];
  const all = (): Buffer[] => {
    if (kind === 'client-stream') return [numbered(sent.length, 4)];
    if (kind !== 'server-stream') return [...sent];
    const { count, size } = readOrder(sent[0] as Buffer);
    return Array.from({ length: count }, (_, i) => numbered(i, size));
  };
  return all().slice(0, entry.sent);
}

function callAndAudit(
  call: ClientCall,
  egress: readonly Completed[],
  ingress: readonly Completed[],
  entry: Entry | undefined,
): string[] {
  const wrong: string[] = [];
  const [near, far] = [egress[0], ingress[0]];
  if (near === undefined || egress.length !== 1) return [`egress audited it ${egress.length} times`];
  if (ingress.length > 1) wrong.push(`ingress audited it ${ingress.length} times`);
  if (near.grpcStatus !== call.code) wrong.push(`egress audited it with status ${near.grpcStatus}`);
  const [up, down] = [octetsOf(call.sent), octetsOf(call.received)];
  if (near.requestBytes > up) wrong.push(`egress had ${near.requestBytes} octets of a request of ${up}`);
  if (near.responseBytes < down)
    wrong.push(`egress had ${near.responseBytes} octets of an answer of ${down}`);
  if (far === undefined) {
    if (entry !== undefined || call.code === status.OK) wrong.push('ingress knows nothing of it');
    return wrong;
  }
  if (far.requestBytes > near.requestBytes) wrong.push('ingress had more of the request than egress');
  if (near.responseBytes > far.responseBytes) wrong.push('egress had more of the answer than ingress');
  if (call.code !== status.OK) return wrong;
  if (far.grpcStatus !== status.OK) wrong.push(`ingress audited it with status ${far.grpcStatus}`);
  if (far.sessionId !== near.sessionId) wrong.push('the two ends audited different sessions');
  if (far.requestBytes !== up) wrong.push(`ingress had ${far.requestBytes} octets of a request of ${up}`);
  if (near.responseBytes !== down || far.responseBytes !== down) {
    wrong.push(`an answer of ${down} octets was ${far.responseBytes} and ${near.responseBytes}`);
  }
  return wrong;
}

function octetsOf(messages: readonly Buffer[]): number {
  return messages.reduce((sum, { length }) => sum + MESSAGE_PREFIX + length, 0);
}

function isPrefix(some: readonly Buffer[], all: readonly Buffer[]): boolean {
  return some.length <= all.length && some.every((message, i) => message.equals(all[i] as Buffer));
}
