import type { webcrypto } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadExposureDefinition, loadIdentityDefinition } from '../../src/control/definition.ts';
import type { CertifyRequest, CertifyResponse, ReportRequest } from '../../src/control/messages.ts';
import { toPem } from '../../src/identity/pem.ts';
import { type Forged, forgeCa, forgeLeaf, type Recipe, x509 } from '../identity/forge.ts';
import { type Answer, ControllerStub, failure } from './controllerstub.ts';
import type { ConfigFile } from './sidecars.ts';

/** The public key of a request, once its signature holds; by another library than the one that made it. */
export async function keysOfRequest(csr: Uint8Array): Promise<webcrypto.CryptoKeyPair> {
  const request = new x509.Pkcs10CertificateRequest(csr);
  if (!(await request.verify())) throw new Error('the signature of the request does not hold');
  const publicKey = (await request.publicKey.export()) as webcrypto.CryptoKey;
  return { publicKey, privateKey: undefined as never };
}

/** An SVID for the key of a request. */
export async function certifyRequest(issuer: Forged, csr: Uint8Array, recipe: Recipe): Promise<Forged> {
  return await forgeLeaf(issuer, { ...recipe, keys: await keysOfRequest(csr) });
}

const HOUR = 3_600_000;

/** A CA of shop.example that is good for an hour. */
export const hourCa = (name = 'CN=Root'): Promise<Forged> =>
  forgeCa({ name, notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR });

/** A stub of the controller that certifies whoever has one of its tokens; it can go away and come back. */
export class CertifyStub {
  /** Whose SVID it has, from its next start on. */
  peer: string;
  #stub: ControllerStub | undefined;
  #port = 0;
  /** Who issues SVIDs. */
  ca: Forged;
  /** The bundle that is handed out. */
  bundle: readonly Forged[];
  ttlMs: number;
  /** SVIDs issued. */
  issued = 0;
  /** What sidecars have reported of apps in plaintext, each with its metadata `authorization`. */
  readonly reports: Array<ReportRequest & { readonly authorization: string }> = [];

  private constructor(ca: Forged, ttlMs: number, peer: string) {
    this.ca = ca;
    this.bundle = [ca];
    this.ttlMs = ttlMs;
    this.peer = peer;
  }

  /** Its own SVID is of `peer`. */
  static async start(ttlMs: number, peer: string): Promise<CertifyStub> {
    const made = new CertifyStub(await hourCa(), ttlMs, peer);
    await made.start();
    return made;
  }

  /** Serves again, where it did before. */
  async start(): Promise<void> {
    const times = { notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR };
    const leaf = await forgeLeaf(this.ca, { uris: [this.peer], ...times });
    const identity = await loadIdentityDefinition();
    const handlers = {
      Certify: (request: CertifyRequest) => this.#certify(request),
      GetBundle: () => ({ bundle: this.bundle.map(({ der }) => der) }),
    };
    const exposure = await loadExposureDefinition();
    const Report: Answer = (request: ReportRequest, metadata) => {
      this.reports.push({ ...request, authorization: String(metadata.get('authorization')[0]) });
      return {};
    };
    const services = [
      [identity, handlers],
      [exposure, { Report }],
    ] as const;
    this.#stub = await ControllerStub.start([leaf], services, this.#port);
    this.#port = this.#stub.port;
  }

  stop(): void {
    this.#stub?.stop();
    this.#stub = undefined;
  }

  async #certify({ csr, serviceAccountToken = '' }: CertifyRequest): Promise<CertifyResponse> {
    const [, id] = /^token-of,(.+)$/.exec(serviceAccountToken) ?? [];
    if (id === undefined) throw failure(grpc.status.UNAUTHENTICATED, 'the token is not one of this stub');
    const notAfterMs = Date.now() + this.ttlMs;
    const svid = await certifyRequest(this.ca, csr, {
      uris: [id],
      notBefore: Date.now() - HOUR,
      notAfter: notAfterMs,
    });
    this.issued++;
    return { chain: [svid.der], bundle: this.bundle.map(({ der }) => der), spiffeId: id, notAfterMs };
  }

  /** The configuration of a sidecar whose identity comes from here, its files in `folder`. */
  async config(folder: string, spiffeId: string): Promise<ConfigFile> {
    await mkdir(folder, { recursive: true });
    const token = join(folder, 'token');
    await writeFile(token, `token-of,${spiffeId}`);
    const at = (name: string): string => join(folder, name);
    return {
      identity: {
        svid: at('svid.pem'),
        key: at('svid.key'),
        bundle: at('bundle.pem'),
        issuer: 'controller',
      },
      controller: {
        address: `127.0.0.1:${this.#port}`,
        peer: this.peer,
        token,
        bundlePem: toPem('CERTIFICATE', this.ca.der),
      },
    };
  }
}
