import { HandshakeError } from '../../../src/transport/errors.ts';
import {
  decodeIdentityPayload,
  encodeIdentityPayload,
  type IdentityPayload,
} from '../../../src/transport/identitypayload.ts';
import { mutateBytes } from '../mutator.ts';
import { claim, same, type Target } from '../target.ts';

/** An input is an octet, whose payload it is, and the payload. */
const HEAD = 1;

export type Decode = typeof decodeIdentityPayload;

/** docs/protocol.md, "Identity payload": types ascending by their low seven bits, each once, nothing after. */
function wellFormed(bytes: Buffer): boolean {
  let last = -1;
  let at = 0;
  while (at < bytes.length) {
    if (at + 3 > bytes.length) return false;
    const type = bytes.readUInt8(at);
    if ((type & 0x7f) <= last || (type >= 0x80 && ![0x81, 0x82, 0x83, 0x84].includes(type))) return false;
    last = type & 0x7f;
    at += 3 + bytes.readUInt16BE(at + 1);
  }
  return at === bytes.length;
}

const shown = ({ chain, signature, instance, ...rest }: IdentityPayload): unknown => [
  chain.map((der) => der.toString('hex')),
  signature.toString('hex'),
  instance?.toString('hex'),
  rest,
];

export function checkPayload(input: Buffer, decode: Decode): void {
  const sender = ((input[0] ?? 0) & 1) === 1 ? 'initiator' : 'responder';
  const bytes = Buffer.from(input.subarray(HEAD));
  let payload: IdentityPayload;
  try {
    payload = decode(bytes, sender);
  } catch (error) {
    claim(error instanceof HandshakeError, `it threw ${String(error)}`);
    claim(['bad-identity-payload', 'no-certificate'].includes(error.code), error.code);
    return;
  }
  claim(wellFormed(bytes), 'a payload was read that is none');
  claim((payload.expectedPeer !== undefined) === (sender === 'initiator'), 'an expected ID, or none');
  claim(payload.chain.length >= 1 && payload.chain.length <= 4, `${payload.chain.length} certificates`);
  claim((payload.maxRecord ?? 1024) >= 1024, 'a largest record that holds nothing');
  same(shown(decode(encodeIdentityPayload(payload), sender)), shown(payload), 'it does not come back');
}

const PAYLOAD: IdentityPayload = {
  chain: [Buffer.alloc(40, 1), Buffer.alloc(30, 2)],
  signatureAlgorithm: 0x0403,
  signature: Buffer.alloc(70, 3),
  expectedPeer: 'spiffe://shop.example/ns/default/sa/greeter',
  maxRecord: 65_535,
  instance: Buffer.alloc(8, 4),
};

export const target: Target = {
  name: 'identity-payload',
  claim:
    'an identity payload is read if it is one, strictly, and comes back from the encoder; else it is a typed error',
  seeds: [
    Buffer.concat([Buffer.from([1]), encodeIdentityPayload(PAYLOAD)]),
    Buffer.concat([
      Buffer.from([0]),
      encodeIdentityPayload({
        ...PAYLOAD,
        expectedPeer: undefined,
        signatureAlgorithm: 0x0807,
        instance: undefined,
      }),
    ]),
    Buffer.concat([Buffer.from([1]), encodeIdentityPayload(PAYLOAD), Buffer.from([0x07, 0, 1, 9])]),
    Buffer.from([0, 0x81, 0, 0]),
  ],
  maxLength: 600,
  mutate: mutateBytes,
  run: (input) => checkPayload(input, decodeIdentityPayload),
};
