/**
 * The rules of RFC 9113 section 8 for header lists, and what a relay reads from them. The result is kept on
 * the list itself, so that a list which the HPACK memo returns again is not checked again.
 */
import type { HeaderField } from '../hpack/field.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import { ErrorCode, StreamError } from './errors.ts';

export type MessageKind = 'request' | 'response' | 'trailers';

/** What a checked header list says. */
export class Message {
  readonly kind: MessageKind;
  method = '';
  scheme = '';
  path = '';
  authority = '';
  /** 0 unless a response. */
  status = 0;
  /** -1 where the list has no content-length. */
  contentLength = -1;
  contentType = '';
  /** -1 where the list has no (valid) grpc-status. */
  grpcStatus = -1;
  /** The list's grpc-timeout as it stands, or undefined. */
  grpcTimeout: string | undefined;
  /** What the owner of the connection derived from this list, kept as long as the list. */
  plan: unknown;

  constructor(kind: MessageKind) {
    this.kind = kind;
  }
}

// RFC 9113 section 8.2.1 forbids upper case, controls, space, colon and everything from 0x7f on; we allow
// just RFC 9110's token characters, like every peer that we relay to.
const TOKEN = new Uint8Array(256);
for (const c of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") TOKEN[c.charCodeAt(0)] = 1;

const CONNECTION_FIELDS = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
]);

function malformed(message: string): StreamError {
  return new StreamError(ErrorCode.PROTOCOL_ERROR, message);
}

/** A name for an error message: bounded, and nothing in it but printable ASCII. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 64).replace(/[^\x20-\x7e]/g, '?'));
}

function checkName(name: string): void {
  if (name.length === 0) throw malformed('empty field name');
  for (let i = 0; i < name.length; i++) {
    if (TOKEN[name.charCodeAt(i)] !== 1)
      throw malformed(`field name ${shown(name)} has a forbidden character`);
  }
}

function checkValue(name: string, value: string): void {
  if (isSoundValue(value)) return;
  const inside = NUL_CR_LF.test(value);
  throw malformed(
    `value of ${shown(name)} ${inside ? 'has NUL, CR or LF' : 'begins or ends with white space'}`,
  );
}

const NUL_CR_LF = /[\0\r\n]/;

/** RFC 9113 section 8.2.1. */
export function isSoundValue(value: string): boolean {
  const length = value.length;
  if (length === 0) return true;
  const first = value.charCodeAt(0);
  const last = value.charCodeAt(length - 1);
  if (first === 0x20 || first === 0x09 || last === 0x20 || last === 0x09) return false;
  return !NUL_CR_LF.test(value);
}

/**
 * Of a regular field with this name in a request, whatever its value is, a Message says nothing but `grpcTimeout`;
 * only its value must be sound.
 */
export function readsOnlyPresence(name: string): boolean {
  return name.charCodeAt(0) !== 0x3a && !READ_FIELDS.has(name) && !CONNECTION_FIELDS.has(name);
}

const READ_FIELDS = new Set(['te', 'host', 'content-length', 'content-type', 'grpc-status']);

// At most what a number holds exactly.
const DIGITS = /^[0-9]{1,15}$/;

/** Checks `list` as a message of `kind`; throws StreamError if it is malformed. */
export function readMessage(list: HeaderList, kind: MessageKind): Message {
  const known = list.derived;
  if (known instanceof Message && known.kind === kind) return known;
  const message = new Message(kind);
  let regular = false;
  let pseudo = 0;
  let host: string | undefined;
  for (const field of list.fields) {
    const { name, value } = field;
    checkValue(name, value);
    if (name.charCodeAt(0) === 0x3a) {
      if (regular) throw malformed(`pseudo-header ${shown(name)} after a regular field`);
      pseudo |= readPseudo(message, field, pseudo);
      continue;
    }
    regular = true;
    checkName(name);
    switch (name) {
      case 'te':
        if (value !== 'trailers') throw malformed('te other than trailers');
        break;
      case 'host':
        if (host !== undefined) throw malformed('host twice');
        host = value;
        break;
      case 'content-length': {
        if (!DIGITS.test(value)) throw malformed('content-length is not a number');
        // RFC 9110 section 8.6: to be refused or made one, even where both are the same.
        if (message.contentLength >= 0) throw malformed('content-length twice');
        message.contentLength = Number(value);
        break;
      }
      case 'content-type':
        message.contentType = value;
        break;
      case 'grpc-status':
        if (/^[0-9]{1,3}$/.test(value)) message.grpcStatus = Number(value);
        break;
      case 'grpc-timeout':
        message.grpcTimeout ??= value;
        break;
      default:
        if (CONNECTION_FIELDS.has(name)) throw malformed(`connection-specific field ${shown(name)}`);
    }
  }
  finish(message, pseudo, host);
  list.derived = message;
  return message;
}

const METHOD = 1;
const SCHEME = 2;
const PATH = 4;
const AUTHORITY = 8;
const STATUS = 16;

function readPseudo(message: Message, field: HeaderField, seen: number): number {
  const { name, value } = field;
  let bit: number;
  switch (name) {
    case ':method':
      bit = METHOD;
      message.method = value;
      break;
    case ':scheme':
      bit = SCHEME;
      message.scheme = value;
      break;
    case ':path':
      bit = PATH;
      message.path = value;
      break;
    case ':authority':
      bit = AUTHORITY;
      message.authority = value;
      break;
    case ':status':
      bit = STATUS;
      if (!/^[1-9][0-9]{2}$/.test(value)) throw malformed(':status is not a three-digit number');
      message.status = Number(value);
      break;
    default:
      throw malformed(`unknown pseudo-header ${shown(name)}`);
  }
  if ((seen & bit) !== 0) throw malformed(`pseudo-header ${shown(name)} twice`);
  const allowed = message.kind === 'request' ? bit !== STATUS : message.kind === 'response' && bit === STATUS;
  if (!allowed) throw malformed(`pseudo-header ${shown(name)} in a ${message.kind}`);
  return bit;
}

function finish(message: Message, pseudo: number, host: string | undefined): void {
  if (message.kind === 'response') {
    if ((pseudo & STATUS) === 0) throw malformed('response without :status');
    if (message.status === 101) throw malformed('101 is not used in HTTP/2');
    return;
  }
  if (message.kind === 'trailers') return;
  if (message.method === 'CONNECT') {
    if (pseudo !== (METHOD | AUTHORITY)) throw malformed('CONNECT takes :method and :authority only');
    if (!AUTHORITY_TEXT.test(message.authority)) throw malformed(':authority has a forbidden character');
    return;
  }
  if ((pseudo & (METHOD | SCHEME | PATH)) !== (METHOD | SCHEME | PATH)) {
    throw malformed('request without :method, :scheme and :path');
  }
  if (!METHOD_TOKEN.test(message.method)) throw malformed(':method is not a token');
  if (!SCHEME_NAME.test(message.scheme)) throw malformed(':scheme is not a scheme');
  const { path } = message;
  if (path.charCodeAt(0) !== 0x2f && !(path === '*' && message.method === 'OPTIONS')) {
    throw malformed(':path is empty or does not begin with /');
  }
  if (NOT_IN_PATH.test(path)) throw malformed(':path has white space or controls');
  if (host !== undefined) {
    if ((pseudo & AUTHORITY) === 0) message.authority = host;
    else if (host.toLowerCase() !== message.authority.toLowerCase())
      throw malformed('host unlike :authority');
  }
  if (message.authority === '') throw malformed('request without :authority and host');
  if (!AUTHORITY_TEXT.test(message.authority)) throw malformed(':authority has a forbidden character');
}

const METHOD_TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const SCHEME_NAME = /^[A-Za-z][A-Za-z0-9+.-]*$/;
const NOT_IN_PATH = /[\x00-\x20\x7f]/;
// RFC 3986 section 3.2 without userinfo (RFC 9113 section 8.3.1).
const AUTHORITY_TEXT = /^[A-Za-z0-9._~!$&'()*+,;=:%[\]-]+$/;
