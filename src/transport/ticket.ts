import type { LocalIdentity } from '../identity/local.ts';
import type { PeerIdentity } from '../identity/peer.ts';
import type { SessionKeys } from './keyschedule.ts';
import type { Mode } from './mode.ts';

/*
 * The payload of NEW_TICKET: ticket_id[16] | idle seconds left u32 | absolute seconds left u32
 *
 * Reading order: this file, issuedtickets.ts (the responder's), heldtickets.ts (the initiator's), then mode 2 in
 * initiator.ts and responder.ts.
 */
export const TICKET_ID_LENGTH = 16;
const IDLE_AT = TICKET_ID_LENGTH; // u32
const ABSOLUTE_AT = IDLE_AT + 4; // u32
const TICKET_LENGTH = ABSOLUTE_AT + 4;

/** A handshake brings so many tickets: a responder's first records. */
export const TICKETS_A_HANDSHAKE = 2;
/** So many of a session are kept, by either side; of more the oldest go. */
export const TICKETS_A_SESSION = 4;

/** A ticket as it is handed out. */
export interface NewTicket {
  /** 16 bytes. */
  readonly id: Buffer;
  /** How long the session still lives without a call, and in all. */
  readonly idleSeconds: number;
  readonly absoluteSeconds: number;
}

export function encodeTicket({ id, idleSeconds, absoluteSeconds }: NewTicket): Buffer {
  const bytes = Buffer.alloc(TICKET_LENGTH);
  id.copy(bytes);
  bytes.writeUInt32BE(seconds(idleSeconds), IDLE_AT);
  bytes.writeUInt32BE(seconds(absoluteSeconds), ABSOLUTE_AT);
  return bytes;
}

/** Copies what it keeps; undefined if it is not a ticket. */
export function decodeTicket(bytes: Buffer): NewTicket | undefined {
  if (bytes.length !== TICKET_LENGTH) return undefined;
  return {
    id: Buffer.from(bytes.subarray(0, TICKET_ID_LENGTH)),
    idleSeconds: bytes.readUInt32BE(IDLE_AT),
    absoluteSeconds: bytes.readUInt32BE(ABSOLUTE_AT),
  };
}

function seconds(value: number): number {
  return Math.min(Math.max(Math.floor(value), 0), 0xffff_ffff);
}

/** What a connection that resumes a session takes over from the handshake that founded it. */
export interface Resumable {
  /** The key stays its owner's, who wipes it. */
  readonly session: SessionKeys;
  /** As it was proven then. */
  readonly peer: PeerIdentity;
  /** Who we were in that handshake, and which trust bundle verified the peer: either may have changed before it was over. */
  readonly identity: LocalIdentity;
  readonly bundleGeneration: number;
  readonly foundedIn: Mode;
  /** The largest record length field that the peer accepts. */
  readonly peerMaxRecord: number;
  /** 8 bytes in hex that name the peer's process, if it told. */
  readonly peerInstance: string | undefined;
}

/** What a connection leaves to those that resume its session. */
export function resumableOf({
  session,
  peer,
  identity,
  bundleGeneration,
  foundedIn,
  peerMaxRecord,
  peerInstance,
}: Resumable): Resumable {
  return { session, peer, identity, bundleGeneration, foundedIn, peerMaxRecord, peerInstance };
}

/** A ticket on its way back: its holder has deleted it already. */
export interface Ticket {
  readonly id: Buffer;
  readonly resumable: Resumable;
}
