/**
 * A real sidecar, whose peer is a sidecar in the test's own process that remembers every secret that both share. The sidecar's
 * own private keys are told by insider.mjs. The test file has to say:
 *
 *   vi.mock('../../src/crypto/provider.ts', async (original) => recording(await original()));
 */
import { createHash, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { expect } from 'vitest';
import { AdminClient } from './admin-client.ts';
import { type Embedded, embed } from './embedded.ts';
import { SayHello } from './greeter-methods.ts';
import { Insider } from './insider.ts';
import { Secrets } from './memorysearch.ts';
import { Mitm } from './mitm.ts';
import { type Recorded, type RecordingProvider, recorded } from './recordingprovider.ts';
import { type ConfigFile, ingressTo, merge, type SidecarProcess, World } from './sidecars.ts';

/** Names of secrets that are a process's, not a session's. */
export const STATIC_KEY = 'static key';
export const SVID_KEY = 'SVID key';
/** In the names of what belongs to ML-KEM. */
export const ML_KEM = 'of ML-KEM';
/** A direction changes its key after so many records. */
export const REKEY_RECORDS = 1024;
/** One each direction. */
export const SESSIONS = 2;

const KEY = 32; // bytes
const ML_KEM_SEED = 64;

export interface SceneOptions {
  /** Merged into the configurations of both. */
  readonly both?: ConfigFile;
  /** Merged into the sidecar's. */
  readonly subject?: ConfigFile;
  readonly env?: Readonly<Record<string, string>>;
}

export class Scene {
  readonly sidecar: SidecarProcess;
  readonly peer: Embedded;
  readonly #world: World;
  readonly #insider: Insider;
  readonly #provider: RecordingProvider;
  readonly #middles: readonly Mitm[];

  private constructor(
    world: World,
    insider: Insider,
    sides: { sidecar: SidecarProcess; peer: Embedded; middles: readonly Mitm[] },
  ) {
    this.#world = world;
    this.#insider = insider;
    this.#provider = recorded.at(-1) as RecordingProvider;
    this.sidecar = sides.sidecar;
    this.peer = sides.peer;
    this.#middles = sides.middles;
  }

  /** A sidecar and its peer, each of which can call the other's app. */
  static async make({ both = {}, subject = {}, env = {} }: SceneOptions = {}): Promise<Scene> {
    const world = await World.make();
    const insider = new Insider(world, 'subject');
    const [toPeer, toSidecar] = [await Mitm.start({ raw: true }), await Mitm.start({ raw: true })];
    const app = await world.app();
    const side = (own: string, other: string, middle: Mitm): ConfigFile =>
      merge(
        merge(ingressTo(world, app.address, `${own}.shop`), {
          egress: {
            routes: [{ service: `${other}.shop`, endpoints: [middle.address], peer: world.spiffeId(other) }],
          },
          records: { rekeyRecords: REKEY_RECORDS },
          pool: { backoff: '10ms', maxBackoff: '50ms' },
        }),
        both,
      );
    const peer = await embed(world, 'peer', side('peer', 'subject', toSidecar));
    const admin = { admin: { listen: `unix:${join(world.dir, 'admin.sock')}` } };
    const sidecar = await world.sidecar(
      'subject',
      merge(merge(side('subject', 'peer', toPeer), admin), subject),
      merge(insider.start as ConfigFile, { env: { ...env, TEST_INSIDER_KEYS: 'yes' } }),
    );
    toPeer.target = peer.ingress;
    toSidecar.target = sidecar.ingress;
    return new Scene(world, insider, { sidecar, peer, middles: [toPeer, toSidecar] });
  }

  /** Calls in both directions. */
  async call(times: number): Promise<void> {
    const call = async (egress: string, authority: string): Promise<void> => {
      const client = this.#world.client(egress, { authority });
      for (let n = 0; n < times; ) if ((await client.unary(SayHello, { name: 'Ada' })).code === 0) n++;
      client.close();
    };
    await Promise.all([call(this.sidecar.egress, 'peer.shop'), call(this.peer.egress, 'subject.shop')]);
  }

  /** Cuts the connections of both sessions, which the next calls resume. */
  cut(): void {
    for (const { link } of this.#middles) {
      link.client.destroy();
      link.server.destroy();
    }
  }

  /** Everything that both know, and what the sidecar alone does. */
  async secrets(): Promise<Secrets> {
    const secrets = new Secrets();
    for (const { what, bytes } of this.#provider.secrets) secrets.addKey(what, bytes);
    for (const { kind, bytes } of await this.#insider.keys()) {
      if (kind === 'random' && bytes.length === KEY) secrets.addKey('message of ML-KEM', bytes);
      else if (kind === 'random' && bytes.length === ML_KEM_SEED) addMlKem(secrets, bytes);
      else if (kind === 'key' && bytes.length < ML_KEM_SEED) {
        const isFirst = !secrets.names.includes(STATIC_KEY);
        secrets.addKey(isFirst ? STATIC_KEY : 'ephemeral X25519 key', bytes.subarray(-KEY));
      } else if (kind === 'key') {
        const seed = bytes.indexOf(Buffer.of(0x04, ML_KEM_SEED)) + 2; // an OCTET STRING
        addMlKem(secrets, bytes.subarray(seed, seed + ML_KEM_SEED));
      }
    }
    const pem = await readFile(join(this.#world.trust.dir, 'subject.key'), 'latin1');
    const { d } = createPrivateKey(pem).export({ format: 'jwk' });
    secrets.addKey(SVID_KEY, Buffer.from(d as string, 'base64url'));
    for (const line of pem.split('\n').slice(1, -2)) {
      secrets.addBytes(SVID_KEY, 'PEM', Buffer.from(line, 'latin1'));
    }
    return secrets;
  }

  /** The names of session keys, and of traffic keys, that are in use. */
  get live(): string[] {
    const { sessions } = this.peer.sidecar;
    const keys = sessions.getSessionsByLastUsed().map(({ sessionKey }) => sessionKey.bytes);
    return [...this.#provider.aesKeysInUse.map(({ bytes }) => bytes), ...keys].map(
      (key) => (this.#provider.secrets.find(({ bytes }) => bytes.equals(key)) as Recorded).what,
    );
  }

  /** Node's diagnostic report of the sidecar. */
  async report(): Promise<string> {
    await this.collect();
    return this.#insider.reports();
  }

  async collect(): Promise<void> {
    await this.#insider.collect(this.sidecar);
  }

  /** Revokes all sessions at the sidecar, as an operator does. */
  async revoke(): Promise<void> {
    const api = new AdminClient(this.sidecar.ready.admin[0] as string);
    const receipt = await api.call<{ sessions: unknown[] }>('RevokeSessions', { all: true, reason: 'test' });
    api.close();
    expect(receipt.sessions).toHaveLength(SESSIONS);
    await expect.poll(() => this.peer.sidecar.sessions.size, { timeout: 20_000 }).toBe(0);
  }
}

/** A seed of ML-KEM-768, and the decapsulation key that comes of it, as FIPS 203 encodes it and as numbers. */
function addMlKem(secrets: Secrets, seed: Buffer): void {
  const name = 'decapsulation key of ML-KEM';
  secrets.addKey(name, seed.subarray(0, KEY));
  secrets.addKey(name, seed.subarray(KEY));
  // G(d || k), of which the second half makes the secret vector (FIPS 203, algorithm 13).
  const [d, k] = [seed.subarray(0, KEY), Buffer.of(3)];
  secrets.addKey(name, createHash('sha3-512').update(d).update(k).digest().subarray(KEY));
  const { secretKey } = ml_kem768.keygen(seed);
  for (let i = 0; i < 3; i++) {
    const polynomial = Buffer.from(secretKey.subarray(i * 384, i * 384 + 48));
    secrets.addBytes(name, `vector, part ${i}`, polynomial.subarray(0, KEY));
    const numbers = Buffer.alloc(64);
    for (let n = 0; n < 32; n++) {
      const at = (n >> 1) * 3 + (n & 1);
      const two = polynomial.readUInt16LE(at);
      numbers.writeUInt16LE((n & 1) === 0 ? two & 0xfff : two >> 4, 2 * n);
    }
    secrets.addBytes(name, `vector, part ${i}, as numbers`, numbers);
  }
}
