import { createHash } from 'node:crypto';
import type { Clock, TimerHandle } from '../../clock/clock.ts';
import { IdentityError } from '../../identity/errors.ts';
import type { KubeClient } from '../client/client.ts';
import { KubeError } from '../client/errors.ts';
import { collectionPath, objectPath, SECRETS } from '../client/resource.ts';
import type { KubeSecret } from '../objects.ts';
import { type CaPair, newCaData, readCaPair } from './capair.ts';

export interface CaKeeperOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly namespace: string;
  /** Name of the Secret. */
  readonly secret: string;
  readonly trustDomain: string;
  readonly ttlMs: number;
  readonly listener: CaListener;
}

export interface CaListener {
  /** A CA is in force: made by this replica, found, or put in the place of the one before. */
  readonly onTaken: (pair: CaPair, cause: 'made' | 'found' | 'replaced') => void;
  /** The Secret has something that cannot be used; what was good stays. Told once for the same contents and reason. */
  readonly onRefused: (error: IdentityError) => void;
  /** The API server could not be asked; it is asked again. */
  readonly onUnreachable: (error: KubeError) => void;
}

/** A GET of one object by each replica: nothing that an API server would notice. */
const LOOK_MS = 15_000;
const RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;

/**
 * The CA that is in force. Its Secret is made by whichever replica finds none, and never overwritten. It is looked at every
 * 15 s, which needs no right to list or watch Secrets.
 */
export class CaKeeper {
  readonly #options: CaKeeperOptions;
  readonly #place: string;
  readonly #path: string;
  #current: CaPair | undefined;
  /** SHA-256 of the contents that the CA in force was read from. */
  #taken: string | undefined;
  /** What was refused last, and why. It is read again each time: a clock, or time, may have made it good. */
  #refused: string | undefined;
  #timer: TimerHandle;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(options: CaKeeperOptions) {
    this.#options = options;
    const { namespace, secret } = options;
    this.#place = `Secret ${namespace}/${secret}`;
    this.#path = objectPath(SECRETS, secret, namespace);
  }

  /** Throws if there is none yet. */
  get current(): CaPair {
    if (this.#current === undefined) throw new IdentityError('missing-file', 'there is no CA yet');
    return this.#current;
  }

  get isOpen(): boolean {
    return this.#current !== undefined;
  }

  /**
   * Finds the CA or makes it, and keeps looking at it. Waits for an API server that is away. Rejects with IdentityError if
   * what is there cannot be used. Resolves with false if it was closed meanwhile.
   */
  async open(): Promise<boolean> {
    for (let failures = 0; !this.#closed; failures++) {
      try {
        await this.#look();
        this.#again();
        return true;
      } catch (error) {
        if (!(error instanceof KubeError) || error.reason === 'NoCredentials') throw error;
        this.#options.listener.onUnreachable(error);
      }
      await this.#pause(Math.min(RETRY_MS * 2 ** Math.min(failures, 10), MAX_RETRY_MS));
    }
    return false;
  }

  /** Looks at the Secret now. Rejects with KubeError, or with IdentityError where there is no CA in force to go on with. */
  async look(): Promise<void> {
    await this.#look();
  }

  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
    this.#wake?.();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = this.#options.clock.after(ms * (0.5 + Math.random() / 2), resolve);
    });
  }

  #again(): void {
    if (this.#closed) return;
    const { clock, listener } = this.#options;
    this.#timer = clock.after(LOOK_MS * (0.8 + 0.4 * Math.random()), () => {
      this.#look()
        .catch((error) => {
          if (error instanceof KubeError) listener.onUnreachable(error);
          else throw error;
        })
        .finally(() => this.#again());
    });
  }

  async #look(): Promise<void> {
    const { clock, trustDomain, listener } = this.#options;
    const { secret, made } = await this.#secret();
    if (this.#closed) return;
    const contents = digestOf(secret);
    if (contents === this.#taken && !this.#hasEnded) {
      this.#refused = undefined;
      return;
    }
    let pair: CaPair;
    try {
      pair = await readCaPair(secret, this.#place, trustDomain, clock.now());
    } catch (error) {
      if (this.#current === undefined || !(error instanceof IdentityError)) throw error;
      const refused = `${contents} ${error.code}`;
      if (refused !== this.#refused) listener.onRefused(error);
      this.#refused = refused;
      return;
    }
    this.#taken = contents;
    this.#refused = undefined;
    const first = this.#current === undefined;
    this.#current = pair;
    listener.onTaken(pair, made ? 'made' : first ? 'found' : 'replaced');
  }

  /** The Secret may have another certificate of the same key that has not. */
  get #hasEnded(): boolean {
    return this.current.authority.certificate.notAfter < this.#options.clock.now();
  }

  /** Of replicas that find none at the same time, one makes it, and the others find that one. */
  async #secret(): Promise<{ secret: KubeSecret; made: boolean }> {
    const { client } = this.#options;
    try {
      return { secret: await client.get<KubeSecret>(this.#path), made: false };
    } catch (error) {
      if (!(error instanceof KubeError) || !error.notFound) throw error;
      if (this.#current !== undefined) {
        throw new KubeError(
          `${this.#place} is gone; the CA that was in it stays in force until the controller restarts: put it back from a backup`,
          { status: error.status, reason: error.reason, cause: error },
        );
      }
    }
    try {
      return { secret: await this.#create(), made: true };
    } catch (error) {
      if (!(error instanceof KubeError) || error.reason !== 'AlreadyExists') throw error;
      return { secret: await client.get<KubeSecret>(this.#path), made: false };
    }
  }

  async #create(): Promise<KubeSecret> {
    const { client, clock, namespace, secret, trustDomain, ttlMs } = this.#options;
    const data = await newCaData(trustDomain, ttlMs, clock.now());
    return client.create<KubeSecret>(collectionPath(SECRETS, namespace), {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name: secret,
        namespace,
        labels: { 'app.kubernetes.io/name': 'hauberk', 'app.kubernetes.io/component': 'controller' },
        annotations: {
          'hauberk.mesh/description':
            'The CA of this mesh. Back it up: without it every pod of the mesh needs a restart.',
        },
      },
      type: 'Opaque',
      data,
    });
  }
}

function digestOf({ data = {} }: KubeSecret): string {
  const hash = createHash('sha256');
  for (const name of Object.keys(data).sort()) hash.update(JSON.stringify([name, data[name]]));
  return hash.digest('hex');
}
