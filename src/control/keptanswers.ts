/** What the controller told, over a restart of the sidecar: in a file beside its SVID. */
import { dirname, join, parse } from 'node:path';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { IdentityError } from '../identity/errors.ts';
import { readChecked, removeUnfinished, writeOwnerOnly } from '../identity/files.ts';
import type {
  DiscoveredEndpoint,
  DiscoveryAnswer,
  DiscoveryQuery,
  DiscoverySource,
} from '../relay/discovery.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { decodeKept, encodeKept, KEPT_MAX_BYTES, type KeptName } from './keptfile.ts';

export interface KeptAnswersOptions {
  /** Whom to ask. */
  readonly source: DiscoverySource;
  readonly file: string;
  /** The SPIFFE ID of who is asked: what another has told is not used. */
  readonly controller: string;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly random?: () => number;
  /** Writes a file that only its owner can read, whole or not at all. */
  readonly write?: (path: string, text: string) => Promise<void>;
}

/** What was told longer ago is not used; nor is what seems to come from the future, but for clocks that were set. */
const MAX_AGE_MS = 86_400_000;
const CLOCK_SET_MS = 60_000;
/** A controller that is there has answered by then: what it says now is better. */
const PATIENCE_MS = 500;
/** What changes together is written together, ... */
const GATHER_MS = 200;
/** ... and so seldom at most. */
const WRITE_PAUSE_MS = 5000;
/** After a failure. */
const RETRY_MS = 60_000;
/** What is told again as it was makes its entry in the file newer after so long. */
const RESTAMP_MS = 3_600_000;

/** Not of a secret, but who can write it decides whom this sidecar takes for a service. */
const FILE_KIND = {
  what: 'what discovery told',
  maxBytes: KEPT_MAX_BYTES,
  secret: false,
  guarded: true,
  cure: '',
};

interface Entry extends KeptName {
  toldAt: number;
  /** As a time of the monotonic clock; those of before this process are below 0. */
  usedAt: number;
  /** As the file has it; undefined if it has not. */
  writtenAt: number | undefined;
}

interface User {
  readonly key: string;
  readonly lastUsed: () => number;
}

/** Where the answers of a sidecar with that SVID are kept. */
export const keptFileOf = (svid: string): string => join(dirname(svid), `${parse(svid).name}.discovery.json`);

/**
 * A source that tells, of names for which its own source has no answer yet, what that told before: to an earlier process as
 * well. The file has what changed some seconds later, and is written only for changes.
 */
export class KeptAnswers implements DiscoverySource {
  readonly #options: KeptAnswersOptions;
  readonly #random: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #users = new Set<User>();
  #timer: TimerHandle | undefined;
  /** Monotonic. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #isChanged = false;
  #isWriting = false;
  #writing = Promise.resolve();
  #hasFailed = false;
  #isUsed = false;
  #closed = false;

  private constructor(options: KeptAnswersOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  /** Begins with what is in the file. One that cannot be used is as none, and the log says why. Never rejects. */
  static async open(options: KeptAnswersOptions): Promise<KeptAnswers> {
    const made = new KeptAnswers(options);
    await made.#read();
    return made;
  }

  get trouble(): string | undefined {
    return this.#options.source.trouble;
  }

  get isAway(): boolean {
    return this.#options.source.isAway;
  }

  async #read(): Promise<void> {
    const { file, log } = this.#options;
    const useless = (detail: string): void =>
      log.warn(
        { file, detail },
        'what discovery told before the restart is of no use; the controller is asked',
      );
    let text: string;
    try {
      await removeUnfinished(file);
      text = (await readChecked(file, FILE_KIND)).toString('utf8');
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      if (error.code !== 'missing-file') useless(error.message);
      return;
    }
    const decoded = decodeKept(text, this.#options);
    if ('fault' in decoded) {
      useless(decoded.fault);
      return;
    }
    const { names, refused } = decoded;
    if (refused !== undefined) log.warn({ file, refused }, 'what discovery told before is left out in part');
    for (const [i, name] of names.entries()) {
      const key = keyOf(name.query);
      if (this.#entries.has(key) || !this.#isFresh(name)) continue;
      this.#entries.set(key, { ...name, usedAt: -1 - i, writtenAt: name.toldAt });
    }
    log.info({ file, names: this.#entries.size }, 'discovery begins with what was told before');
  }

  #isFresh({ toldAt }: KeptName): boolean {
    const age = this.#options.clock.now() - toldAt;
    return age > -CLOCK_SET_MS && age < MAX_AGE_MS;
  }

  /** What was told before is told at once while the source is away, and otherwise if it takes long to answer. */
  watch(
    query: DiscoveryQuery,
    onAnswer: (answer: DiscoveryAnswer) => void,
    lastUsed: () => number,
  ): () => void {
    const { source, clock } = this.#options;
    const user: User = { key: keyOf(query), lastUsed };
    this.#users.add(user);
    let patience: TimerHandle | undefined;
    const stop = source.watch(
      query,
      (answer) => {
        clock.clear(patience);
        this.#told(query, answer);
        onAnswer(answer);
      },
      lastUsed,
    );
    const tell = (): void => this.#tell(user.key, onAnswer);
    if (this.#entries.has(user.key)) {
      if (source.isAway) tell();
      else patience = clock.after(PATIENCE_MS, tell);
    }
    return () => {
      clock.clear(patience);
      stop();
      this.#left(user);
    };
  }

  #tell(key: string, onAnswer: (answer: DiscoveryAnswer) => void): void {
    const { log, metrics, clock } = this.#options;
    const entry = this.#entries.get(key);
    if (entry === undefined || !this.#isFresh(entry)) return;
    const ageSeconds = Math.round((clock.now() - entry.toldAt) / 1000);
    const details = { service: entry.query.authority, ageSeconds };
    if (this.#isUsed) log.debug(details, 'discovery: as told before');
    else log.info(details, 'the controller has not answered yet; what it told before is used');
    this.#isUsed = true;
    metrics.discoveryAnswers.of('kept').inc();
    onAnswer(entry.answer);
  }

  #told(query: DiscoveryQuery, answer: DiscoveryAnswer): void {
    const key = keyOf(query);
    const before = this.#entries.get(key);
    if (!answer.found || answer.endpoints.length === 0) {
      if (this.#entries.delete(key)) this.#changed();
      return;
    }
    const toldAt = this.#options.clock.now();
    if (before !== undefined && isSame(before.answer, answer)) {
      before.toldAt = toldAt;
      if (toldAt - (before.writtenAt ?? toldAt) >= RESTAMP_MS) this.#changed();
      return;
    }
    const { usedAt = 0, writtenAt } = before ?? {};
    this.#entries.set(key, { query, answer, toldAt, usedAt, writtenAt });
    this.#changed();
  }

  /** Nobody uses the name for now; what the file has no room for is forgotten with that. */
  #left(user: User): void {
    if (!this.#users.delete(user) || this.#closed) return;
    const entry = this.#entries.get(user.key);
    if (entry === undefined) return;
    entry.usedAt = Math.max(entry.usedAt, user.lastUsed());
    if (entry.writtenAt === undefined && !this.#isChanged) this.#entries.delete(user.key);
  }

  #changed(): void {
    this.#isChanged = true;
    if (this.#isWriting || this.#timer !== undefined || this.#closed) return;
    const { clock } = this.#options;
    const pause = Math.max(GATHER_MS, this.#notBefore - clock.monotonic());
    this.#timer = clock.after(pause, () => {
      this.#timer = undefined;
      this.#write();
    });
  }

  #write(): void {
    const { clock, file, write = writeFile } = this.#options;
    const text = this.#encoded();
    this.#isChanged = false;
    this.#isWriting = true;
    this.#notBefore = clock.monotonic() + WRITE_PAUSE_MS;
    this.#writing = this.#writing
      .then(() => write(file, text))
      .then(
        () => this.#wrote(undefined),
        (error: unknown) => this.#wrote(error),
      );
  }

  #wrote(error: unknown): void {
    const { log, file, clock } = this.#options;
    this.#isWriting = false;
    if (error !== undefined) {
      const detail = error instanceof IdentityError ? error.message : String(error);
      const told =
        'what discovery tells cannot be kept; a restart while the controller is away would know no addresses';
      if (!this.#hasFailed) log.warn({ file, detail }, told);
      this.#notBefore = clock.monotonic() + RETRY_MS;
      this.#isChanged = true;
    }
    this.#hasFailed = error !== undefined;
    if (this.#isChanged) this.#changed();
  }

  /** The text of the file; forgets what is not in it and not used now. */
  #encoded(): string {
    const used = new Set<string>();
    for (const { key, lastUsed } of this.#users) {
      used.add(key);
      const entry = this.#entries.get(key);
      if (entry !== undefined) entry.usedAt = Math.max(entry.usedAt, lastUsed());
    }
    const all = [...this.#entries.values()];
    const fresh = all.filter((entry) => this.#isFresh(entry)).sort((a, b) => b.usedAt - a.usedAt);
    const { text, count } = encodeKept(fresh, this.#options.controller, this.#random);
    for (const entry of all) entry.writtenAt = undefined;
    for (const entry of fresh.slice(0, count)) entry.writtenAt = entry.toldAt;
    for (const [key, { writtenAt }] of this.#entries) {
      if (writtenAt === undefined && !used.has(key)) this.#entries.delete(key);
    }
    return text;
  }

  /** Writes what has changed since it was written last, as it is now. Never rejects. */
  close(): Promise<void> {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
    if (this.#isChanged) this.#write();
    return this.#writing;
  }
}

const writeFile = (path: string, text: string): Promise<void> => writeOwnerOnly(path, text, true);

const keyOf = ({ authority, namespace, port }: DiscoveryQuery): string => `${authority} ${namespace} ${port}`;

function isSame(a: DiscoveryAnswer, b: DiscoveryAnswer): boolean {
  if (a.service !== b.service || a.zone !== b.zone || a.endpoints.length !== b.endpoints.length) return false;
  return a.endpoints.every((endpoint, i) => isSameEndpoint(endpoint, b.endpoints[i] as DiscoveredEndpoint));
}

const isSameEndpoint = (a: DiscoveredEndpoint, b: DiscoveredEndpoint): boolean =>
  a.address === b.address &&
  a.meshPort === b.meshPort &&
  a.targetPort === b.targetPort &&
  a.peer === b.peer &&
  a.zone === b.zone &&
  a.ready === b.ready;
