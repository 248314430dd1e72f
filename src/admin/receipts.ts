import type { AllowReceipt, RevocationReceipt, SessionReceipt } from '../relay/revocation.ts';
import type { AllowPeerResponse, RevokeResponse, SessionReceiptMessage } from './messages.ts';

/** Receipts in one answer, which must not be larger than gRPC clients take. */
const MAX_RECEIPTS = 1000;

/** What a command that cut sessions, or blocked peers, did. */
export function revokeResponse({
  sessions,
  unknown,
  cutMicros,
  blocked,
  hold,
}: RevocationReceipt): RevokeResponse {
  return {
    sessions: sessions.slice(0, MAX_RECEIPTS).map(receiptMessage),
    sessionsCut: sessions.length,
    unknownIds: unknown,
    cutMicros,
    blocked,
    hold:
      hold === undefined ? 'HOLD_UNSPECIFIED' : hold.until === 'allowed' ? 'UNTIL_ALLOWED' : 'UNTIL_RESTART',
    holdDetail: hold?.until === 'restart' ? hold.why : '',
  };
}

function receiptMessage({
  serviceId,
  direction,
  connections,
  ...receipt
}: SessionReceipt): SessionReceiptMessage {
  return {
    ...receipt,
    service: serviceId ?? '',
    direction: direction === 'inbound' ? 'INBOUND' : 'OUTBOUND',
    connections: connections.map(({ remote, lastRecord }) => ({ remote, lastRecord })),
  };
}

/** The same in a sentence, for the audit. */
export function revokeDetail({ sessions, unknown, blocked }: RevocationReceipt): string {
  return `${sessions.length} sessions cut, ${unknown.length} ids unknown, ${blocked.length} peers blocked`;
}

export function allowResponse({ was }: AllowReceipt): AllowPeerResponse {
  return { was: was ?? null };
}
