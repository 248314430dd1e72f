/**
 * Faults at one unit of a handshake: the relay lets a connection alone up to that unit, does one thing there, and lets it
 * alone again, or not.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Direction, flipped, type Link, Mitm, type Unit } from './mitm.ts';

export const HANDSHAKE_FAULTS = [
  'delay',
  'dribble', // a few octets at a time
  'drop',
  'cut', // FIN in the middle of the unit
  'reset', // instead of the unit
  'half-open', // from here on both ways swallow everything, and nobody is told
  'corrupt', // a bit
  'replay', // the unit comes twice
  'splice', // the unit of another handshake that has come as far comes in its place, and the other way round
  'exchange', // the same with everything that follows in this direction
] as const;
export type HandshakeFault = (typeof HANDSHAKE_FAULTS)[number];

const DELAY_MS = 60;
/** Of a unit that dribbles: so many octets come singly, the rest in a few pieces more. */
const SINGLE_OCTETS = 6;
const MORE_PIECES = 10;

/** Which unit, by what it is: the second record of the responder is `down record 1`. */
export interface Spot {
  readonly direction: Direction;
  readonly kind: Unit['kind'];
  readonly index: number;
}

/** What is done to a route's first connection that is due. */
export class Sabotage {
  readonly fault: HandshakeFault;
  readonly spot: Spot;
  /** The handshake that it is spliced with. */
  partner: Sabotage | undefined;
  /** Only then connections are tampered with. */
  armed = false;
  /** The connection that it was done to. */
  link: Link | undefined;
  /** Something else than was sent has arrived, or not all of it. */
  harmed = false;
  readonly #random: () => number;
  /** What comes behind the unit, until it has been dealt with. */
  #held: Buffer[] | undefined;
  #own: Buffer | undefined;
  #pieces = 0;
  #over = false;

  constructor(fault: HandshakeFault, spot: Spot, random: () => number) {
    this.fault = fault;
    this.spot = spot;
    this.#random = random;
  }

  /** What goes on in place of a unit. */
  meddle(unit: Unit, link: Link): Buffer | undefined {
    if (!this.armed) return unit.bytes;
    this.link ??= link;
    if (this.link !== link) return unit.bytes;
    if (link.halfOpen) return undefined;
    const { direction, kind, index } = this.spot;
    if (unit.direction !== direction) return unit.bytes;
    if (this.#held !== undefined) {
      this.#held.push(unit.bytes);
      return undefined;
    }
    if (this.#over) return this.#afterwards(unit.bytes);
    if (unit.kind !== kind || unit.index !== index) return unit.bytes;
    this.#over = true;
    return this.#strike(unit.bytes, link);
  }

  #afterwards(bytes: Buffer): Buffer | undefined {
    const other = this.fault === 'exchange' ? this.partner?.link : undefined;
    if (other === undefined) return bytes;
    other.inject(this.spot.direction, bytes);
    return undefined;
  }

  #strike(bytes: Buffer, link: Link): Buffer | undefined {
    this.harmed = this.fault !== 'delay' && this.fault !== 'dribble';
    switch (this.fault) {
      case 'delay':
        this.#held = [bytes];
        void pause(DELAY_MS).then(() => this.#release());
        return undefined;
      case 'dribble':
        this.#held = [bytes];
        // What came before it in the same chunk goes first.
        setImmediate(() => this.#dribble(link));
        return undefined;
      case 'drop':
        return undefined;
      case 'cut':
        setImmediate(() => {
          link.client.destroy();
          link.server.destroy();
        });
        return bytes.subarray(0, bytes.length >> 1);
      case 'reset':
        link.client.resetAndDestroy();
        link.server.resetAndDestroy();
        return undefined;
      case 'half-open':
        link.halfOpen = true;
        return undefined;
      case 'corrupt': {
        const at = Math.floor(this.#random() * bytes.length);
        return flipped(bytes, at, Math.floor(this.#random() * 8));
      }
      case 'replay':
        return Buffer.concat([bytes, bytes]);
      default:
        this.#meet(bytes);
        return undefined;
    }
  }

  /** A piece a turn of the event loop, as far as the kernel sends them one by one; headers octet by octet. */
  #dribble(link: Link): void {
    const all = Buffer.concat(this.#held ?? []);
    if (all.length === 0 || link.client.destroyed || link.server.destroyed) {
      this.#held = undefined;
      return;
    }
    const n = ++this.#pieces <= SINGLE_OCTETS ? 1 : Math.ceil(all.length / MORE_PIECES);
    link.inject(this.spot.direction, all.subarray(0, n));
    this.#held = [all.subarray(n)];
    setImmediate(() => this.#dribble(link));
  }

  #meet(bytes: Buffer): void {
    this.#own = bytes;
    this.#held = [];
    const partner = this.partner as Sabotage;
    const theirs = partner.#own;
    if (theirs !== undefined) setImmediate(() => this.#splice(partner, theirs, bytes));
  }

  #splice(partner: Sabotage, theirs: Buffer, bytes: Buffer): void {
    const harmed = !theirs.equals(bytes) || this.fault === 'exchange';
    for (const [each, unit] of [
      [this, theirs],
      [partner, bytes],
    ] as const) {
      each.harmed = harmed;
      each.link?.inject(this.spot.direction, unit);
    }
    partner.#release();
    this.#release();
  }

  #release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const bytes of held) {
      const out = this.#afterwards(bytes);
      if (out !== undefined) this.link?.inject(this.spot.direction, out);
    }
  }
}

/** A man in the middle for many routes, each with an address of 127.77.x.y and a sabotage of its own. */
export class Saboteur {
  readonly mitm: Mitm;
  readonly plans: Sabotage[] = [];

  private constructor(mitm: Mitm) {
    this.mitm = mitm;
  }

  static async start(): Promise<Saboteur> {
    const mitm = await Mitm.start({ host: '0.0.0.0' });
    const saboteur = new Saboteur(mitm);
    mitm.meddler = (unit, link) => saboteur.#of(link).meddle(unit, link);
    return saboteur;
  }

  /** The address of a route, `host:port`. */
  add(plan: Sabotage): string {
    const n = this.plans.push(plan) - 1;
    return `127.77.${n >> 8}.${n & 255}:${this.mitm.port}`;
  }

  #of(link: Link): Sabotage {
    const [, , high, low] = link.dialled.split('.').map(Number) as [number, number, number, number];
    return this.plans[(high << 8) | low] as Sabotage;
  }
}
