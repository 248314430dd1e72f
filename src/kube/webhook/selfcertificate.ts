/**
 * A certificate of the controller's own making, in a Secret that all replicas read. It is replaced when two thirds of its
 * life are over, in two steps, so that no API server ever meets a certificate that it does not know:
 *
 *     tls.* shown, ca.crt has its CA
 *       ── two thirds of its life ──▶ next.* made; ca.crt has both CAs, and the webhook configuration gets both
 *       ── the configuration has had both for a minute ──▶ tls.* = next.*; ca.crt still has both
 *
 * Only the leader changes anything, but for the first certificate, which whoever finds none makes.
 */
import type { Clock, TimerHandle } from '../../clock/clock.ts';
import type { KubeClient } from '../client/client.ts';
import { KubeError } from '../client/errors.ts';
import { collectionPath, objectPath, SECRETS } from '../client/resource.ts';
import type { KubeSecret } from '../objects.ts';
import {
  isFor,
  isSignedBy,
  livingCertificates,
  makeServing,
  readServing,
  type ServingCertificate,
} from './certificates.ts';
import type { CertificateListener, CertificateSource } from './certificatesource.ts';
import { WebhookError } from './errors.ts';

export interface SelfCertificateOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly namespace: string;
  /** Name of the Secret. */
  readonly secret: string;
  /** DNS names of the certificate; the first is the one that API servers ask for. */
  readonly names: readonly string[];
  readonly listener: CertificateListener;
  readonly isLeader: () => boolean;
  /** Has it published: for how long the webhook configuration has had all of these CAs, in milliseconds. */
  readonly publishedMs: (bundle: string) => number;
  readonly lifeMs?: number | undefined;
}

const LIFE_MS = 90 * 86_400_000;
const LOOK_MS = 10_000;
const RETRY_MS = 500;
const MAX_RETRY_MS = 10_000;
/** API servers hear of a changed configuration within seconds. */
const SETTLED_MS = 60_000;

interface Contents {
  readonly secret: KubeSecret;
  readonly current: ServingCertificate;
  readonly next: ServingCertificate | undefined;
  /** CAs that have not ended. */
  readonly cas: readonly string[];
}

export class SelfCertificate implements CertificateSource {
  readonly #options: SelfCertificateOptions;
  readonly #path: string;
  readonly #place: string;
  #shown: ServingCertificate | undefined;
  #bundle = '';
  #trouble: string | undefined;
  #timer: TimerHandle;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(options: SelfCertificateOptions) {
    this.#options = options;
    this.#path = objectPath(SECRETS, options.secret, options.namespace);
    this.#place = `Secret ${options.namespace}/${options.secret}`;
  }

  /** What API servers are to trust, PEM; empty until `open`. */
  get bundle(): string {
    return this.#bundle;
  }

  /** Waits for an API server that is away. Rejects with KubeError where it never can be asked. */
  async open(): Promise<boolean> {
    for (let failures = 0; !this.#closed; failures++) {
      try {
        await this.look();
        this.#again();
        return true;
      } catch (error) {
        if (!(error instanceof KubeError) || error.reason === 'NoCredentials') throw error;
        this.#tell(error.message);
      }
      await this.#pause(Math.min(RETRY_MS * 2 ** Math.min(failures, 10), MAX_RETRY_MS));
    }
    return false;
  }

  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
    this.#wake?.();
  }

  /** Looks at the Secret now, and takes the step that is due. */
  async look(): Promise<void> {
    let contents: Contents;
    let made = false;
    try {
      contents = this.#read(await this.#options.client.get<KubeSecret>(this.#path));
    } catch (error) {
      if (error instanceof WebhookError) contents = await this.#mend(error);
      else if (error instanceof KubeError && error.notFound) {
        contents = await this.#create();
        made = true;
      } else throw error;
    }
    if (this.#closed) return;
    contents = await this.#step(contents);
    this.#take(contents, made);
  }

  #take({ current, cas }: Contents, made: boolean): void {
    this.#bundle = cas.join('');
    this.#trouble = undefined;
    if (this.#closed || (current.chain === this.#shown?.chain && current.key === this.#shown.key)) return;
    const cause = made ? 'made' : this.#shown === undefined ? 'found' : 'rotated';
    this.#shown = current;
    this.#options.listener.onTaken(current, cause);
  }

  /** The next step of a rotation, if this replica leads and it is due. */
  async #step(contents: Contents): Promise<Contents> {
    const { isLeader, clock, publishedMs, lifeMs = LIFE_MS, names } = this.#options;
    if (!isLeader()) return contents;
    const { current, next, cas } = contents;
    if (next !== undefined) {
      if (publishedMs(cas.join('')) < SETTLED_MS) return contents;
      return this.#replace(contents, next, undefined, cas);
    }
    const age = clock.now() - current.notBefore;
    if (age < ((current.notAfter - current.notBefore) * 2) / 3) return contents;
    const made = await makeServing(names, clock.now(), lifeMs);
    return this.#replace(contents, current, made.serving, [...cas, made.ca]);
  }

  /** Where somebody was faster, theirs counts. */
  async #replace(
    { secret }: Contents,
    current: ServingCertificate,
    next: ServingCertificate | undefined,
    cas: readonly string[],
  ): Promise<Contents> {
    const { client } = this.#options;
    const data = dataOf(current, next, cas);
    try {
      return this.#read(await client.replace<KubeSecret>(this.#path, { ...secret, data }));
    } catch (error) {
      if (!(error instanceof KubeError) || !error.conflict) throw error;
      return this.#read(await client.get<KubeSecret>(this.#path));
    }
  }

  async #create(): Promise<Contents> {
    const { client, clock, namespace, secret, names, lifeMs = LIFE_MS } = this.#options;
    const { serving, ca } = await makeServing(names, clock.now(), lifeMs);
    try {
      const body: KubeSecret = {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: {
          name: secret,
          namespace,
          labels: { 'app.kubernetes.io/name': 'hauberk', 'app.kubernetes.io/component': 'controller' },
        },
        type: 'Opaque',
        data: dataOf(serving, undefined, [ca]),
      };
      return this.#read(await client.create<KubeSecret>(collectionPath(SECRETS, namespace), body));
    } catch (error) {
      if (!(error instanceof KubeError) || !error.conflict) throw error;
      return this.#read(await client.get<KubeSecret>(this.#path));
    }
  }

  /** What is in the Secret cannot be used. Nothing of it is worth keeping: whoever finds that makes it anew. */
  async #mend(fault: WebhookError): Promise<Contents> {
    const { client, clock, names, lifeMs = LIFE_MS } = this.#options;
    this.#tell(`${fault.message}; it is made anew`);
    const secret = await client.get<KubeSecret>(this.#path);
    const { serving, ca } = await makeServing(names, clock.now(), lifeMs);
    const old = livingCertificates(textOf(secret, 'ca.crt'), clock.now());
    const data = dataOf(serving, undefined, [...old, ca]);
    try {
      return this.#read(await client.replace<KubeSecret>(this.#path, { ...secret, data }));
    } catch (error) {
      if (!(error instanceof KubeError) || !error.conflict) throw error;
      return this.#read(await client.get<KubeSecret>(this.#path));
    }
  }

  #read(secret: KubeSecret): Contents {
    const { clock, names } = this.#options;
    const now = clock.now();
    const place = this.#place;
    const current = readServing(
      `${place}, tls.crt`,
      textOf(secret, 'tls.crt'),
      textOf(secret, 'tls.key'),
      now,
    );
    const cas = livingCertificates(textOf(secret, 'ca.crt'), now);
    if (!isSignedBy(current.chain, cas)) {
      throw new WebhookError('bad-certificate', `${place}, tls.crt: no CA in ca.crt has signed it`);
    }
    if (!isFor(current.chain, names[0] as string)) {
      throw new WebhookError('bad-certificate', `${place}, tls.crt: it is not for ${names[0]}`);
    }
    return { secret, current, next: this.#next(secret, cas), cas };
  }

  /** A successor that cannot be used is none. */
  #next(secret: KubeSecret, cas: readonly string[]): ServingCertificate | undefined {
    const [chain, key] = [textOf(secret, 'next.crt'), textOf(secret, 'next.key')];
    if (chain === '') return undefined;
    try {
      const next = readServing(`${this.#place}, next.crt`, chain, key, this.#options.clock.now());
      return isSignedBy(chain, cas) ? next : undefined;
    } catch (error) {
      if (error instanceof WebhookError) return undefined;
      throw error;
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = this.#options.clock.after(ms, resolve);
    });
  }

  #again(): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    this.#timer = clock.after(LOOK_MS * (0.8 + 0.4 * Math.random()), () => {
      this.look()
        .catch((error: Error) => this.#tell(error.message))
        .finally(() => this.#again());
    });
  }

  #tell(message: string): void {
    if (message !== this.#trouble) this.#options.listener.onTrouble(message);
    this.#trouble = message;
  }
}

function textOf({ data = {} }: KubeSecret, name: string): string {
  return Buffer.from(data[name] ?? '', 'base64').toString('latin1');
}

function dataOf(
  current: ServingCertificate,
  next: ServingCertificate | undefined,
  cas: readonly string[],
): Record<string, string> {
  const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
  return {
    'tls.crt': base64(current.chain),
    'tls.key': base64(current.key),
    'ca.crt': base64(cas.join('')),
    ...(next === undefined ? {} : { 'next.crt': base64(next.chain), 'next.key': base64(next.key) }),
  };
}
