/**
 * Peers without manners, driven by hand with the project's own pieces: they say in a handshake whatever a test wants
 * them to say.
 */
import { sign } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { systemClock } from '../../src/clock/clock.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { Acceptor } from '../../src/transport/acceptor.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import { dial } from '../../src/transport/dial.ts';
import type { HandshakeError } from '../../src/transport/errors.ts';
import { encodeFrame, MESSAGE } from '../../src/transport/frame.ts';
import { type ChainVerifier, proveIdentity } from '../../src/transport/identityproof.ts';
import { findMode, MODES, type Mode, XX } from '../../src/transport/mode.ts';
import { prologue } from '../../src/transport/prologue.ts';
import { StaticKey } from '../../src/transport/statickey.ts';
import { type Forged, privateKeyOf } from '../identity/forge.ts';
import { rawConnection } from './rawtcp.ts';
import { atEnd } from './sidecars.ts';

const crypto = await loadCryptoProvider('native', { postQuantum: true });
const HELLO = 12; // bytes
const MODE_AT = 5; // offset in CLIENT_HELLO
const FRAME_HEADER = 3; // type u8, length u16

/** An identity of any chain, signing with the leaf's key; what it says of its own validity is a lie. */
export async function identityOf(
  leaf: Forged,
  more: { signer?: Forged; spiffeId?: string } = {},
): Promise<LocalIdentity> {
  const key = await privateKeyOf(more.signer ?? leaf);
  return {
    spiffeId: more.spiffeId ?? 'spiffe://shop.example/ns/default/sa/rogue',
    trustDomain: 'shop.example',
    notAfter: Number.MAX_SAFE_INTEGER,
    chain: [leaf.der],
    signatureAlgorithm: 0x0403,
    sign: (data) => sign('sha256', data, key),
  };
}

/** Makes the identity payload: `h` is the handshake hash before it, `staticKey` the key to be bound. */
export type Prove = (h: Buffer, staticKey: Buffer) => Buffer;

/** What an honest process with this identity would say. */
export function honest(
  identity: LocalIdentity,
  role: 'initiator' | 'responder',
  expectedPeer?: string,
): Prove {
  return (h, staticKey) =>
    proveIdentity(crypto, role, identity, h, staticKey, {
      expectedPeer,
      maxRecord: 65_535,
      instance: undefined,
    });
}

/**
 * A handshake as the initiator, who believes whatever the responder shows and proves itself with `prove`. Resolves
 * when the responder has closed the connection; `answered` tells what came after message 2.
 */
export async function intrude(address: string, prove: Prove): Promise<{ answered: Buffer }> {
  const socket = await rawConnection(address);
  const hello = encodeClientHello(XX.id, 1 << XX.id);
  const s = crypto.generateX25519();
  const noise = new HandshakeState({
    crypto,
    protocol: XX.protocol,
    initiator: true,
    prologue: prologue(XX.protocol, hello, undefined),
    s,
  });
  socket.write(Buffer.concat([hello, encodeFrame(MESSAGE, noise.writeMessage())]));
  noise.readMessage((await readFrame(socket)).subarray(FRAME_HEADER));
  const rest: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => rest.push(chunk));
  socket.write(
    encodeFrame(
      MESSAGE,
      noise.writeMessage((h) => prove(h, s.publicKey)),
    ),
  );
  await new Promise<void>((resolve) => {
    socket.once('end', resolve);
    socket.once('close', () => resolve());
  });
  socket.destroy();
  return { answered: Buffer.concat(rest) };
}

async function readFrame(socket: Socket, before = 0): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length < before + FRAME_HEADER) continue;
    if (bytes.length >= before + FRAME_HEADER + bytes.readUInt16BE(before + 1)) return bytes;
  }
}

/** A listener that is no sidecar. */
export interface Impostor {
  readonly address: string;
  /** Everything that was sent to it. */
  readonly received: () => Buffer;
}

/** Listens and treats each connection as `serve` says. */
export async function impostor(serve: (socket: Socket) => void): Promise<Impostor> {
  const received: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => received.push(Buffer.from(chunk)));
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    received: () => Buffer.concat(received),
  };
}

/** Answers message 1, of the mode that the hello says, with a message 2 that holds what `prove` makes. */
export async function answerWith(socket: Socket, prove: Prove): Promise<void> {
  const bytes = await readFrame(socket, HELLO);
  const s = crypto.generateX25519();
  const hello = bytes.subarray(0, HELLO);
  const { protocol } = findMode(MODES, hello[MODE_AT] as number) as Mode;
  const noise = new HandshakeState({
    crypto,
    protocol,
    initiator: false,
    prologue: prologue(protocol, hello, undefined),
    s,
  });
  noise.readMessage(bytes.subarray(HELLO + FRAME_HEADER));
  socket.write(
    encodeFrame(
      MESSAGE,
      noise.writeMessage((h) => prove(h, s.publicKey)),
    ),
  );
}

function newStaticKey(): StaticKey {
  const staticKey = new StaticKey(crypto, systemClock, 3_600_000);
  atEnd(() => staticKey.close());
  return staticKey;
}

/** An honest handshake with a real sidecar; its channel, or why there is none. */
export function dialAs(
  identity: LocalIdentity,
  address: string,
  options: { expectedPeer: string; bundle: ChainVerifier; localAddress?: string },
): Promise<SecureChannel> {
  const colon = address.lastIndexOf(':');
  return dial({
    host: address.slice(0, colon),
    port: Number(address.slice(colon + 1)),
    identity,
    staticKey: newStaticKey(),
    crypto,
    clock: systemClock,
    ...options,
  });
}

/** The error of a handshake that must fail. */
export async function refusalOf(attempt: Promise<SecureChannel>): Promise<HandshakeError> {
  const channel = await attempt.catch((error: HandshakeError) => error);
  if (channel instanceof Error) return channel;
  channel.destroy('refused');
  throw new Error('the handshake went through');
}

/** An honest responder with this identity. */
export function acceptorAs(
  identity: LocalIdentity,
  bundle: ChainVerifier,
  onChannel: (channel: SecureChannel) => void = (channel) => channel.destroy('refused'),
): Acceptor {
  return new Acceptor({
    identity: () => identity,
    bundle: () => bundle,
    staticKey: newStaticKey(),
    crypto,
    clock: systemClock,
    onChannel,
    onRefused: () => {},
  });
}
