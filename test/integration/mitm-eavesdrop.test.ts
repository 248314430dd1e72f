import { readFileSync } from 'node:fs';
import { Metadata } from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import { encodeHuffman } from '../../src/hpack/huffman.ts';
import { certificatesIn } from '../../src/identity/pem.ts';
import { Chat, Download, Echo, Fail, Upload } from '../harness/greeter-methods.ts';
import { Mitm } from '../harness/mitm.ts';
import { type Pair, startPair } from '../harness/sidecars.ts';

const PAYLOAD = 'payload-marker-Vx7QmZ';
const VALUE = 'value-marker-Kp2WsD';
const BINARY = Buffer.from('binary-marker-Hn8RtL');
const DETAILS = 'details-marker-Jc5YuE';
const CREDENTIAL = 'Bearer credential-marker-Tb6XoG';

let pair: Pair;
/** Between the sidecars. */
let wire: Mitm;
/** Between the client and its sidecar, where everything is plain. */
let plain: Mitm;

beforeAll(async () => {
  wire = await Mitm.start();
  pair = await startPair({ route: { endpoints: [wire.address] } });
  wire.target = pair.greeter.ingress;
  plain = await Mitm.start({ raw: true, target: pair.web.egress });
  await talk();
});

/** All four kinds of call and a failure, with markers in everything that a caller or an app says. */
async function talk(): Promise<void> {
  const client = pair.world.client(plain.address, { authority: 'greeter.shop' });
  const metadata = new Metadata();
  metadata.set('x-name-marker-fq9', VALUE);
  metadata.set('x-data-marker-bin', BINARY);
  metadata.set('authorization', CREDENTIAL);
  const data = Buffer.from(PAYLOAD);
  const echo = await client.unary(Echo, { data }, { metadata });
  expect(echo).toMatchObject({ code: 0, message: { data } });
  const upload = client.clientStream(Upload, { metadata });
  upload.call.write({ data });
  upload.call.end();
  expect(await upload.answer).toMatchObject({ code: 0, message: { messages: 1 } });
  expect((await client.serverStream(Download, { count: 3, size: 20_000 }, { metadata }).answer).code).toBe(0);
  const chat = client.bidi(Chat, { metadata });
  chat.call.write({ data });
  chat.call.end();
  expect(await chat.answer).toMatchObject({ code: 0, messages: [{ data }] });
  expect(await client.unary(Fail, { code: 9, details: DETAILS })).toMatchObject({ details: DETAILS });
}

/** A text as HPACK's Huffman code has it, without its last octet, into which what follows may reach. */
function huffman(text: string): Buffer {
  const out = Buffer.alloc(text.length * 4);
  return out.subarray(0, encodeHuffman(text, out, 0) - 1);
}

/** A value as `-bin` metadata has it, without its last characters, which depend on the padding. */
const base64 = (bytes: Buffer): string => bytes.toString('base64').slice(0, -4);

const TEXTS: Readonly<Record<string, readonly string[]>> = {
  payloads: [PAYLOAD],
  'names of metadata': ['x-name-marker-fq9', 'x-data-marker-bin', 'authorization'],
  'values of metadata': [VALUE, base64(BINARY), CREDENTIAL],
  methods: ['/hauberk.test.v1.Hooks/Echo', '/hauberk.test.v1.Hooks/Upload'],
  'names of services': ['greeter.shop', 'application/grpc'],
  'status messages': [DETAILS],
};

describe('somebody who reads the wire between two sidecars', () => {
  it('would find what these tests look for: beside the client all of it is there', () => {
    const seen = plain.seen();
    for (const [what, texts] of Object.entries(TEXTS)) {
      for (const text of texts) {
        expect(seen.includes(text) || seen.includes(huffman(text)), `${what}: ${text}`).toBe(true);
      }
    }
  });

  it.each(Object.keys(TEXTS))('sees no %s, in either direction', (what) => {
    for (const direction of ['up', 'down'] as const) {
      const seen = wire.seen(direction);
      expect(seen.length).toBeGreaterThan(1_500);
      for (const text of TEXTS[what] as string[]) {
        expect(seen.includes(text), text).toBe(false);
        expect(seen.includes(huffman(text)), `${text}, Huffman coded`).toBe(false);
        expect(seen.includes(Buffer.from(text).toString('base64').slice(0, -4)), `${text}, base64`).toBe(
          false,
        );
      }
    }
  });

  it('sees neither binary metadata nor bulk data', () => {
    expect(wire.seen().includes(BINARY)).toBe(false);
    expect(plain.seen('down').includes(Buffer.alloc(64, 0x5a))).toBe(true);
    expect(wire.seen().includes(Buffer.alloc(8, 0x5a))).toBe(false);
  });

  it('sees neither SPIFFE IDs nor any 12 octets of a certificate', () => {
    const seen = wire.seen();
    for (const text of ['spiffe://', 'shop.example', 'sa/web', 'sa/greeter', 'Hauberk CA']) {
      expect(seen.includes(text), text).toBe(false);
    }
    for (const name of ['web.pem', 'greeter.pem', 'bundle.pem']) {
      const [certificate] = certificatesIn(readFileSync(`${pair.world.trust.dir}/${name}`)) as [Buffer];
      for (let at = 0; at + 12 <= certificate.length; at += 4) {
        expect(seen.includes(certificate.subarray(at, at + 12)), `${name} at ${at}`).toBe(false);
      }
    }
  });

  it('sees the same call twice as different bytes', async () => {
    const call = async (): Promise<Buffer[]> => {
      const before = wire.link.sent.up.length;
      await pair.client.unary(Echo, { data: Buffer.from(PAYLOAD) });
      return wire.link.sent.up.slice(before).map(({ bytes }) => bytes);
    };
    await call(); // the first one fills the header tables
    const [first] = (await call()) as [Buffer];
    const [second] = (await call()) as [Buffer];
    let same = 0;
    for (let i = 2; i < first.length; i++) if (first[i] === second[i]) same++;
    expect(same).toBeLessThan(first.length / 8);
  });
});
