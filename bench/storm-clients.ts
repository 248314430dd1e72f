import { randomBytes } from 'node:crypto';
import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../src/clock/clock.ts';
import { loadCryptoProvider } from '../src/crypto/provider.ts';
import { loadIdentity } from '../src/identity/load.ts';
import type { SecureChannel } from '../src/transport/channel.ts';
import { type DialOptions, dial } from '../src/transport/dial.ts';
import { HandshakeError } from '../src/transport/errors.ts';
import { RESUMPTION, XX, XXHFS } from '../src/transport/mode.ts';
import { StaticKey } from '../src/transport/statickey.ts';
import { TICKET_ID_LENGTH, TICKETS_A_SESSION, type Ticket } from '../src/transport/ticket.ts';
import { spiffeId, TRUST_DOMAIN } from './peers/pairs/hauberk.ts';
import type { StormOrder, StormReport } from './storm.ts';

// A part of the clients of bench/storm.ts, in a process of their own. Each tries until it is connected, as a sidecar does.

/** HTTP/2's preface, SETTINGS without entries, and the ACK of the other end's. */
const OPENING = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from('000000040000000000', 'hex'),
  Buffer.from('000000040100000000', 'hex'),
]);
const LIFETIME_MS = 3_600_000;
const BACKOFF_MS = 200; // the defaults of `pool`
const MAX_BACKOFF_MS = 10_000;
/** Clients that connect at the same time while there is no storm. */
const GENTLY = 8;
/**
 * Attempts under way in one process: with the other's more than the called sidecar has places for, and few enough that each is
 * answered in time, as by clients that have a processor of their own. With all at once, each waited seconds for the others.
 */
const AT_ONCE = 150;

interface Client {
  readonly localAddress: string;
  channel: SecureChannel | undefined;
  /** The newest last. */
  tickets: Ticket[];
}

/** Those of this process. */
class Clients {
  readonly #options: DialOptions;
  readonly #mode: number;
  readonly #clients: Client[];
  readonly #connectedMs: number[] = [];
  readonly #failures: Record<string, number> = {};
  #resumed = 0;
  #underWay = 0;
  readonly #queue: Array<() => void> = [];

  private constructor(options: DialOptions, { first, count, mode }: StormOrder) {
    this.#options = options;
    this.#mode = mode;
    this.#clients = Array.from({ length: count }, (_, i) => ({
      localAddress: `127.1.${(first + i) >> 8}.${(first + i) & 255}`,
      channel: undefined,
      tickets: [],
    }));
  }

  static async of(order: StormOrder): Promise<Clients> {
    const { keys, port, mode } = order;
    const crypto = await loadCryptoProvider('native', { postQuantum: true });
    const files = { svid: join(keys, 'c.pem'), key: join(keys, 'c.key'), bundle: join(keys, 'bundle.pem') };
    const { identity, bundle } = await loadIdentity({ ...files, trustDomain: TRUST_DOMAIN }, systemClock);
    const staticKey = new StaticKey(crypto, systemClock, LIFETIME_MS);
    const options: DialOptions = {
      ...{ host: '127.0.0.1', port, identity, bundle, expectedPeer: spiffeId('b') },
      ...{ staticKey, crypto, clock: systemClock, modes: mode === XXHFS.id ? [XXHFS, XX] : [XX] },
    };
    return new Clients(options, order);
  }

  /** What was before the storm: every client has a ticket, and in mode 2 the session that it is for. */
  async prepare(): Promise<void> {
    if (this.#mode === RESUMPTION.id) {
      const left = [...this.#clients];
      const some = async (): Promise<void> => {
        for (let client = left.pop(); client !== undefined; client = left.pop()) {
          await this.#connect(client, performance.now());
        }
      };
      await Promise.all(Array.from({ length: GENTLY }, some));
      this.#connectedMs.length = 0;
      this.#resumed = 0;
      for (const code of Object.keys(this.#failures)) delete this.#failures[code];
      return;
    }
    // The restarted sidecar will know none of the tickets: made-up ones are as good as those that it has forgotten.
    const { resumable } = await dial(this.#options);
    for (const client of this.#clients) client.tickets = [{ id: randomBytes(TICKET_ID_LENGTH), resumable }];
  }

  /** All come at once. */
  async storm(): Promise<StormReport> {
    for (const { channel } of this.#clients) channel?.destroy('socket-error');
    const began = performance.now();
    await Promise.all(this.#clients.map((client) => this.#connect(client, began)));
    return { connectedMs: this.#connectedMs, failures: this.#failures, resumed: this.#resumed };
  }

  async #connect(client: Client, began: number): Promise<void> {
    for (let span = BACKOFF_MS; ; span = Math.min(2 * span, MAX_BACKOFF_MS)) {
      if (this.#underWay >= AT_ONCE) await new Promise<void>((resolve) => this.#queue.push(resolve));
      this.#underWay++;
      try {
        const channel = await dial({
          ...this.#options,
          localAddress: client.localAddress,
          takeTicket: () => client.tickets.pop(),
        });
        this.#connectedMs.push(performance.now() - began);
        if (channel.session.mode === RESUMPTION.id) this.#resumed++;
        this.#use(client, channel);
        return;
      } catch (error) {
        if (!(error instanceof HandshakeError)) throw error;
        this.#failures[error.code] = (this.#failures[error.code] ?? 0) + 1;
      } finally {
        this.#underWay--;
        this.#queue.shift()?.();
      }
      await delay(Math.random() * span);
    }
  }

  #use(client: Client, channel: SecureChannel): void {
    client.channel = channel;
    if (channel.session.mode !== RESUMPTION.id) client.tickets.length = 0; // they are of the session before
    channel.onClose = (reason) => {
      if (reason === 'socket-error') return; // the storm's beginning
      this.#failures[`lost: ${reason}`] = (this.#failures[`lost: ${reason}`] ?? 0) + 1;
    };
    channel.onTicket = ({ id }) => {
      client.tickets.push({ id, resumable: channel.resumable });
      if (client.tickets.length > TICKETS_A_SESSION) client.tickets.shift();
    };
    channel.onData = () => {};
    const buf = channel.acquire();
    OPENING.copy(buf, channel.headroom);
    channel.write(buf, channel.headroom, channel.headroom + OPENING.length);
  }
}

/** Clients are elsewhere in life: here they take the processor when the sidecars leave it. */
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);

let clients: Clients | undefined;
process.on('message', (order: StormOrder | 'storm') => {
  const work = async (): Promise<StormReport | 'ready'> => {
    if (order === 'storm') return (clients as Clients).storm();
    clients = await Clients.of(order);
    await clients.prepare();
    return 'ready';
  };
  work().then(
    (answer) => process.send?.(answer),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
});
