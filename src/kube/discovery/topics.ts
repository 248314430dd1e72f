import { createHash } from 'node:crypto';
import type { Clock, TimerHandle } from '../../clock/clock.ts';
import type { EndpointsMessage, WatchRequest } from '../../control/messages.ts';
import type { ClusterChange } from './clusterview.ts';
import { answerTo, type ClusterState, dependencies, type ResolveOptions, targetOf } from './resolve.ts';

/** Takes the newest state of a service; false: not before `resume` has been called. */
export type Subscriber = (message: EndpointsMessage) => boolean;

export interface Subscription {
  /** It can take messages again. */
  resume(): void;
  end(): void;
}

export interface TopicsOptions extends Omit<ResolveOptions, 'zone'> {
  readonly state: ClusterState;
  readonly clock: Clock;
  /** Endpoints of a message. */
  readonly maxEndpoints: number;
}

/** Changes that come together are told together. */
const GATHER_MS = 100;
/** A service that changes and changes is looked at once in this time. */
const LEAST_PAUSE_MS = 1000;
/** After so long of it others have their turn: the issuer and the webhook share this process. */
const AT_ONCE_MS = 20;

interface Reader {
  readonly take: Subscriber;
  ready: boolean;
  /** What it has been given last. */
  seen: EndpointsMessage | undefined;
}

/** Where a service is, for all questions that mean it: however it is spelt, and from whatever namespace. */
interface Answer {
  message: EndpointsMessage;
  /** Of `message`, to see whether it has changed. */
  digest: string;
  /** The cluster has changed since. */
  isOld: boolean;
  /** Questions that have it. */
  topics: number;
}

/** One question, whoever asks it. */
interface Topic {
  readonly key: string;
  readonly request: WatchRequest;
  readonly zone: string;
  /** `namespace/name` of the services that may be meant, and their namespaces; undefined: whatever changes. */
  readonly services: ReadonlySet<string> | undefined;
  readonly namespaces: ReadonlySet<string>;
  readonly readers: Set<Reader>;
  /** Of `message`. */
  answerKey: string | undefined;
  message: EndpointsMessage | undefined;
  lookedAt: number;
}

const NONE: EndpointsMessage = { found: false, service: '', port: 0, endpoints: [], hint: '', zone: '' };

/** Who wants to know where services are, and is to be told again. */
export class Topics {
  readonly #options: TopicsOptions;
  readonly #topics = new Map<string, Topic>();
  readonly #answers = new Map<string, Answer>();
  readonly #changed = new Set<Topic>();
  #timer: TimerHandle | undefined;
  /** Messages that were given to readers. */
  told = 0;

  constructor(options: TopicsOptions) {
    this.#options = options;
  }

  /** Questions; those that many ask count once. */
  get size(): number {
    return this.#topics.size;
  }

  /** Gives `take` the state now, and after each change. */
  subscribe(request: WatchRequest, zone: string, take: Subscriber): Subscription {
    const topic = this.#topicOf(request, zone);
    const reader: Reader = { take, ready: true, seen: undefined };
    topic.readers.add(reader);
    if (topic.message === undefined) this.#refresh(topic);
    this.#tell(topic, reader);
    return {
      resume: () => {
        reader.ready = true;
        this.#tell(topic, reader);
      },
      end: () => {
        if (!topic.readers.delete(reader) || topic.readers.size > 0) return;
        this.#topics.delete(topic.key);
        this.#release(topic);
        this.#changed.delete(topic);
      },
    };
  }

  #topicOf(request: WatchRequest, zone: string): Topic {
    const authority = request.authority.toLowerCase();
    const key = JSON.stringify([authority, request.namespace, request.port, zone]);
    const known = this.#topics.get(key);
    if (known !== undefined) return known;
    const needed = dependencies(request, this.#options.clusterDomain);
    const topic: Topic = {
      key,
      request: { ...request, authority },
      zone,
      services: needed && new Set(needed.map(({ namespace, name }) => `${namespace}/${name}`)),
      namespaces: new Set(needed?.map(({ namespace }) => namespace)),
      readers: new Set(),
      answerKey: undefined,
      message: undefined,
      lookedAt: Number.NEGATIVE_INFINITY,
    };
    this.#topics.set(key, topic);
    return topic;
  }

  /** Something of the cluster has changed. */
  changed({ namespace, service }: ClusterChange): void {
    for (const topic of this.#topics.values()) {
      const { services, namespaces } = topic;
      const isMeant =
        services === undefined ||
        (service === undefined ? namespaces.has(namespace) : services.has(`${namespace}/${service}`));
      if (!isMeant) continue;
      this.#changed.add(topic);
      const answer = topic.answerKey === undefined ? undefined : this.#answers.get(topic.answerKey);
      if (answer !== undefined) answer.isOld = true;
    }
    this.#wake();
  }

  #wake(ms = GATHER_MS): void {
    if (this.#changed.size === 0 || this.#timer !== undefined) return;
    this.#timer = this.#options.clock.after(ms, () => {
      this.#timer = undefined;
      this.#tellChanged();
    });
  }

  #tellChanged(): void {
    const { clock } = this.#options;
    const now = clock.monotonic();
    for (const topic of this.#changed) {
      if (now - topic.lookedAt < LEAST_PAUSE_MS) continue;
      if (clock.monotonic() - now > AT_ONCE_MS) {
        this.#wake(1);
        return;
      }
      this.#changed.delete(topic);
      if (this.#refresh(topic)) for (const reader of topic.readers) this.#tell(topic, reader);
    }
    this.#wake();
  }

  /** Looks anew; false if nothing of it has changed. */
  #refresh(topic: Topic): boolean {
    const { state, clusterDomain, clock } = this.#options;
    topic.lookedAt = clock.monotonic();
    const target = targetOf(state, topic.request, clusterDomain);
    const key = `${topic.zone} ${target.key}`;
    let answer = this.#answers.get(key);
    if (answer === undefined) {
      answer = { message: NONE, digest: '', isOld: true, topics: 0 };
      this.#answers.set(key, answer);
    }
    if (topic.answerKey !== key) {
      this.#release(topic);
      topic.answerKey = key;
      answer.topics++;
    }
    if (answer.isOld) {
      const { trustDomain, maxEndpoints } = this.#options;
      const found = answerTo(state, target, { trustDomain, clusterDomain, zone: topic.zone });
      const message = bounded(found, maxEndpoints);
      const digest = createHash('sha256').update(JSON.stringify(message)).digest('base64');
      if (digest !== answer.digest) Object.assign(answer, { message, digest });
      answer.isOld = false;
    }
    if (topic.message === answer.message) return false;
    topic.message = answer.message;
    return true;
  }

  #release({ answerKey }: Topic): void {
    const answer = answerKey === undefined ? undefined : this.#answers.get(answerKey);
    if (answerKey !== undefined && answer !== undefined && --answer.topics === 0) {
      this.#answers.delete(answerKey);
    }
  }

  /** A reader that is slow gets the newest state when it is ready, and none of those between. */
  #tell({ message }: Topic, reader: Reader): void {
    if (!reader.ready || message === undefined || reader.seen === message) return;
    reader.seen = message;
    this.told++;
    reader.ready = reader.take(message);
  }

  close(): void {
    this.#options.clock.clear(this.#timer);
    this.#topics.clear();
    this.#answers.clear();
    this.#changed.clear();
  }
}

/** Of too many endpoints those that are ready, evenly over their addresses. */
function bounded(message: EndpointsMessage, max: number): EndpointsMessage {
  const { endpoints, service } = message;
  if (endpoints.length <= max) return message;
  const ready = endpoints.filter(({ ready: isReady }) => isReady);
  const those = ready.length >= max ? ready : endpoints;
  const step = those.length / max;
  const some = Array.from({ length: max }, (_, i) => those[Math.floor(i * step)]).filter(
    (one) => one !== undefined,
  );
  return {
    ...message,
    endpoints: some,
    hint: `${service} has ${endpoints.length} endpoints, of which ${max} are told`,
  };
}
