import type { Clock, TimerHandle } from '../../clock/clock.ts';
import type { KubeClient } from '../client/client.ts';
import { KubeError } from '../client/errors.ts';
import { collectionPath, MUTATING_WEBHOOKS, objectPath } from '../client/resource.ts';
import type { MutatingWebhookConfiguration } from '../objects.ts';
import { livingCertificates } from './certificates.ts';
import { WebhookError } from './errors.ts';

export interface PublisherOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  /** Name of the MutatingWebhookConfiguration. */
  readonly configuration: string;
  /** The CAs of what this replica shows or will show, PEM; empty: not known yet. */
  readonly bundle: () => string;
  readonly isLeader: () => boolean;
  readonly onPublished: (webhooks: number) => void;
  /** Told once for the same trouble. */
  readonly onTrouble: (message: string) => void;
}

/** How often it is looked at whether this replica leads and what is to be published. */
const LOOK_MS = 2000;
const RETRY_MS = 5000;
/** Somebody who changes it again and again is not raced. */
const CHANGED_MS = 100;
/** Replicas that write at the same time: so often in a row is nothing to tell. */
const MAX_RACES = 4;
/** Replicas of another configuration have ended by then; one that has not writes its CA again. */
const TIDY_MS = 600_000;

/**
 * Writes the CA of the webhook's certificate into the webhook configuration, and again whenever somebody takes it out.
 * Every replica adds its own to what is there, because replicas of two configurations show two certificates while one
 * follows the other. What nobody has added again for ten minutes the leader takes out.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #path: string;
  #timer: TimerHandle;
  #watching: AbortController | undefined;
  #closed = false;
  #looking = false;
  /** When the next look is due, told while one is under way. */
  #nextMs = 0;
  #trouble: string | undefined;
  #bundle = '';
  /** Since when the configuration has had `#bundle`; monotonic. Undefined: it has not. */
  #since: number | undefined;
  /** What the webhooks have besides, and since when; empty: nothing. */
  #surplus = '';
  #surplusSince = 0;
  #races = 0;
  #begun: (() => void) | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#path = objectPath(MUTATING_WEBHOOKS, options.configuration);
  }

  /** Resolves once it has been tried for the first time, or `close` was called. */
  start(): Promise<void> {
    this.#schedule(0);
    return new Promise((resolve) => {
      this.#begun = resolve;
    });
  }

  close(): void {
    this.#closed = true;
    this.#begun?.();
    this.#options.clock.clear(this.#timer);
    this.#watching?.abort();
  }

  /** For how long the configuration has had this bundle, as far as this replica has seen. */
  publishedMs(bundle: string): number {
    if (bundle !== this.#bundle || this.#since === undefined) return 0;
    return this.#options.clock.monotonic() - this.#since;
  }

  #schedule(ms: number): void {
    const { clock } = this.#options;
    clock.clear(this.#timer);
    if (this.#closed) return;
    if (this.#looking) this.#nextMs = ms;
    else this.#timer = clock.after(ms, () => void this.#run());
  }

  async #run(): Promise<void> {
    this.#looking = true;
    this.#nextMs = LOOK_MS;
    try {
      await this.#look();
      this.#races = 0;
    } catch (error) {
      if (isRace(error) && this.#races++ < MAX_RACES) {
        this.#nextMs = CHANGED_MS * (0.5 + Math.random());
      } else {
        this.#nextMs = RETRY_MS;
        this.#tell(error as Error);
      }
    }
    if (this.#races === 0 || this.#nextMs === RETRY_MS) this.#begun?.();
    this.#looking = false;
    this.#schedule(this.#nextMs);
  }

  #tell(error: Error): void {
    const { configuration, onTrouble } = this.#options;
    this.#watching?.abort();
    const missing = error instanceof KubeError && error.notFound;
    const message = missing
      ? `there is no MutatingWebhookConfiguration ${configuration}, so that no pod is injected: install it with the chart, or set webhook.configuration`
      : error.message;
    if (message !== this.#trouble) onTrouble(message);
    this.#trouble = message;
  }

  /** Publishes what is to be published; while nothing has changed and the watch is open, this asks nothing. */
  async #look(): Promise<void> {
    const wanted = this.#options.bundle();
    if (wanted === '') {
      this.#watching?.abort();
      this.#since = undefined;
      return;
    }
    if (wanted === this.#bundle && this.#watching?.signal.aborted === false && !this.#isUntidy()) return;
    await this.#publish(wanted);
  }

  /** Whether there is something that nobody has added again. */
  #isUntidy(): boolean {
    const { clock, isLeader } = this.#options;
    return this.#surplus !== '' && isLeader() && clock.monotonic() - this.#surplusSince >= TIDY_MS;
  }

  async #publish(bundle: string): Promise<void> {
    const { client, clock, onPublished, configuration } = this.#options;
    const now = clock.now();
    const wanted = livingCertificates(bundle, now);
    if (wanted.length === 0) {
      throw new WebhookError(
        'bad-certificate',
        `the CA of the webhook for ${configuration} is no certificate in PEM that is in force: replace webhook.caBundle`,
      );
    }
    let found = await client.get<MutatingWebhookConfiguration>(this.#path);
    if (bundle !== this.#bundle) this.#since = undefined;
    let states = statesOf(found, wanted, now);
    const tidied = this.#noteSurplus(states) && this.#isUntidy();
    const lacking = states.flatMap(({ lacks, others }, index) =>
      lacks || (tidied && others.length > 0) ? [{ index, others: tidied ? [] : others }] : [],
    );
    if (states.some(({ lacks }) => lacks)) this.#since = undefined;
    if (lacking.length > 0) {
      const patch = [
        // Of just what was read: indexes mean nothing in another version.
        { op: 'test', path: '/metadata/resourceVersion', value: found.metadata.resourceVersion },
        ...lacking.map(({ index, others }) => ({
          op: 'add',
          path: `/webhooks/${index}/clientConfig/caBundle`,
          value: Buffer.from([...wanted, ...others].join(''), 'latin1').toString('base64'),
        })),
      ];
      found = await client.patch<MutatingWebhookConfiguration>(this.#path, patch, 'json');
      states = statesOf(found, wanted, now);
      this.#noteSurplus(states);
      onPublished(lacking.length);
    }
    this.#trouble = undefined;
    this.#bundle = bundle;
    this.#since ??= clock.monotonic();
    this.#watch(found.metadata.resourceVersion ?? '');
  }

  /** True if it is what it was. */
  #noteSurplus(states: readonly WebhookState[]): boolean {
    const surplus = [...new Set(states.flatMap(({ others }) => others))].sort().join('');
    if (surplus === this.#surplus) return true;
    this.#surplus = surplus;
    this.#surplusSince = this.#options.clock.monotonic();
    return false;
  }

  /** Any change, and the end of the watch, make the next look read it again. */
  #watch(resourceVersion: string): void {
    this.#watching?.abort();
    const watching = new AbortController();
    this.#watching = watching;
    void this.#hear(resourceVersion, watching);
  }

  async #hear(resourceVersion: string, watching: AbortController): Promise<void> {
    const { client, configuration } = this.#options;
    let changed = false;
    try {
      const events = client.watch<MutatingWebhookConfiguration>(collectionPath(MUTATING_WEBHOOKS), {
        resourceVersion,
        fieldSelector: `metadata.name=${configuration}`,
        signal: watching.signal,
      });
      for await (const { type } of events) {
        changed = type !== 'BOOKMARK';
        if (changed) break;
      }
    } catch {
      // 410, a broken connection, or nobody waits any more: the next look reads the object itself.
    }
    if (watching.signal.aborted || this.#closed) return;
    watching.abort();
    // Where watching is not allowed, this is no reason to ask without a pause.
    this.#schedule(changed ? CHANGED_MS : RETRY_MS);
  }
}

/** What a webhook's `caBundle` is, seen from the CAs that it should have. */
interface WebhookState {
  readonly lacks: boolean;
  /** Other CAs that have not ended, PEM. */
  readonly others: readonly string[];
}

function statesOf(
  { webhooks = [] }: MutatingWebhookConfiguration,
  wanted: readonly string[],
  now: number,
): WebhookState[] {
  return webhooks.map(({ clientConfig }) => {
    const text = Buffer.from(clientConfig?.caBundle ?? '', 'base64').toString('latin1');
    const present = livingCertificates(text, now);
    return {
      lacks: wanted.some((ca) => !present.includes(ca)),
      others: present.filter((ca) => !wanted.includes(ca)),
    };
  });
}

/** Somebody has written it since it was read: a conflict, or 422 for the failed `test` of a JSON Patch. */
const isRace = (error: unknown): boolean =>
  error instanceof KubeError && (error.conflict || error.status === 422);
