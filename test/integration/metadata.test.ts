import { beforeAll, describe, expect, it } from 'vitest';
import { Echo, Fail, type Received, SayHello } from '../harness/greeter-methods.ts';
import { type Pair, startPair } from '../harness/sidecars.ts';

let pair: Pair;
beforeAll(async () => {
  pair = await startPair();
});

const valuesOf = (received: Received | undefined, key: string): string[] =>
  (received?.metadata ?? [])
    .filter((entry) => entry.key === key)
    .map(({ value }) => value.toString('latin1'));

const EVERY_OCTET = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

describe('metadata', () => {
  it('reaches the app and comes back as initial and as trailing metadata', async () => {
    const metadata = { 'x-request-id': 'abc-123', 'x-text': 'a, b; c="d" ~' };
    const { message, headers, trailers } = await pair.client.unary(
      Echo,
      { data: Buffer.alloc(0) },
      { metadata },
    );
    for (const [key, value] of Object.entries(metadata)) {
      expect(valuesOf(message, key)).toEqual([value]);
      expect(headers?.get(key)).toEqual([value]);
      expect(trailers.get(key)).toEqual([value]);
    }
  });

  it('keeps duplicates of a key, in their order', async () => {
    const values = ['3', '1', '2', '1', '3'];
    const answer = await pair.client.unary(
      Echo,
      { data: Buffer.alloc(0) },
      { metadata: { 'x-many': values } },
    );
    // Grpc-js joins what it reads of one key; the order is what counts.
    const joined = (list: readonly unknown[] | undefined): string => (list ?? []).join(', ');
    expect(joined(valuesOf(answer.message, 'x-many'))).toBe('3, 1, 2, 1, 3');
    expect(joined(answer.headers?.get('x-many'))).toBe('3, 1, 2, 1, 3');
    expect(joined(answer.trailers.get('x-many'))).toBe('3, 1, 2, 1, 3');
  });

  it('keeps binary values octet by octet, also several of a key', async () => {
    const metadata = { 'x-one-bin': EVERY_OCTET, 'x-two-bin': [Buffer.alloc(0), Buffer.from([0, 255])] };
    const { headers, trailers, message } = await pair.client.unary(
      Echo,
      { data: Buffer.alloc(0) },
      { metadata },
    );
    const seen = message?.metadata.find(({ key }) => key === 'x-one-bin');
    expect(seen?.value.equals(EVERY_OCTET)).toBe(true);
    expect(headers?.get('x-one-bin')).toEqual([EVERY_OCTET]);
    expect(trailers.get('x-one-bin')).toEqual([EVERY_OCTET]);
    expect(trailers.get('x-two-bin')).toContainEqual(Buffer.from([0, 255]));
  });

  it('of a failed call comes with the status', async () => {
    const metadata = { 'x-reason': 'because', 'x-details-bin': EVERY_OCTET };
    const { code, trailers } = await pair.client.unary(Fail, { code: 9, details: 'no' }, { metadata });
    expect(code).toBe(9);
    expect(trailers.get('x-reason')).toEqual(['because']);
    expect(trailers.get('x-details-bin')).toEqual([EVERY_OCTET]);
  });

  it('that differs in every call reaches the right call', async () => {
    const calls = Array.from({ length: 300 }, (_, i) =>
      pair.client.unary(
        Echo,
        { data: Buffer.from(String(i)) },
        {
          metadata: { 'x-id': `id-${i}`, 'x-id-bin': Buffer.from([i & 255, i >> 8]) },
          deadlineMs: 30_000 + i,
        },
      ),
    );
    for (const [i, { message, trailers }] of (await Promise.all(calls)).entries()) {
      expect(message?.data.toString()).toBe(String(i));
      expect(valuesOf(message, 'x-id')).toEqual([`id-${i}`]);
      expect(trailers.get('x-id-bin')).toEqual([Buffer.from([i & 255, i >> 8])]);
    }
  });

  it('of 30 KiB passes', async () => {
    const metadata = { 'x-large-bin': Buffer.alloc(4_000, 7), 'x-large': 'v'.repeat(8_000) };
    const big = pair.newClient({ options: { 'grpc.max_metadata_size': 65_536 } });
    const { code, trailers } = await big.unary(Echo, { data: Buffer.alloc(0) }, { metadata });
    expect(code).toBe(0);
    expect(trailers.get('x-large')).toEqual(['v'.repeat(8_000)]);
  });
});

describe('who calls', () => {
  it('is told to the app by its sidecar', async () => {
    const { message } = await pair.client.unary(Echo, { data: Buffer.alloc(0) });
    const { sessionId } = await pair.web.audit.event('session.created');
    expect(valuesOf(message, 'hauberk-peer')).toEqual([pair.web.ready.spiffeId]);
    expect(valuesOf(message, 'hauberk-session')).toEqual([sessionId]);
  });

  it('cannot be forged by the caller', async () => {
    const forged = {
      'hauberk-peer': [
        'spiffe://shop.example/ns/default/sa/admin',
        'spiffe://shop.example/ns/default/sa/root',
      ],
      'hauberk-session': '00000000-0000-8000-8000-000000000000',
    };
    const { message } = await pair.client.unary(SayHello, { name: 'Eve' }, { metadata: forged });
    const { sessionId } = await pair.web.audit.event('session.created');
    expect(message).toMatchObject({ peer: pair.web.ready.spiffeId, session: sessionId });
  });
});
