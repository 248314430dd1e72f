/**
 * hauberk.mesh.v1.Envelope, the message of calls without a schema (proto/hauberk/mesh/v1/envelope.proto):
 * a Uint8Array travels as octets, everything else as JSON. Written out, because a protobuf library would cost
 * every program megabytes for two fields.
 */
import { isUtf8 } from 'node:buffer';

const JSON_TAG = 0x0a; // field 1, length-delimited
const OCTETS_TAG = 0x12; // field 2, length-delimited

/** Wire types (protobuf encoding). */
const VARINT = 0;
const I64 = 1;
const LEN = 2;
const I32 = 5;

const MAX_TAG = 0xffff_ffff;
const MAX_VARINT = 10; // octets

/** A value that no envelope can carry, or octets that are no envelope. */
export class EnvelopeError extends Error {
  override readonly name = 'EnvelopeError';
}

/**
 * A value as an Envelope. Undefined becomes null; what JSON leaves out or changes (functions in objects, Dates, Maps), it
 * leaves out or changes here. Throws EnvelopeError if JSON cannot have it: a function, a BigInt, a cycle.
 */
export function encodeEnvelope(value: unknown): Buffer {
  if (value instanceof Uint8Array) {
    const [out, at] = begin(OCTETS_TAG, value.length);
    out.set(value, at);
    return out;
  }
  const json = jsonOf(value);
  const [out, at] = begin(JSON_TAG, Buffer.byteLength(json));
  out.write(json, at, 'utf8');
  return out;
}

function jsonOf(value: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value === undefined ? null : value);
  } catch (cause) {
    const why = cause instanceof Error ? (cause.message.split('\n')[0] as string) : String(cause);
    throw new EnvelopeError(`it cannot be sent as JSON: ${why}`, { cause });
  }
  if (json === undefined) throw new EnvelopeError(`a ${typeof value} cannot be sent`);
  return json;
}

/** A buffer with room for a field of `length` octets, and where they go. */
function begin(tag: number, length: number): [out: Buffer, at: number] {
  let size = 2;
  for (let rest = length; rest > 0x7f; rest >>>= 7) size++;
  const out = Buffer.allocUnsafe(size + length);
  out[0] = tag;
  let at = 1;
  let rest = length;
  for (; rest > 0x7f; rest >>>= 7) out[at++] = (rest & 0x7f) | 0x80;
  out[at++] = rest;
  return [out, at];
}

/**
 * What an Envelope carries: a JSON value, or a Buffer that shares `octets`. Fields that it does not know are skipped, the
 * last body counts. Throws EnvelopeError, also for keys by which JSON could reach the prototypes of a program's objects.
 */
export function decodeEnvelope(octets: Uint8Array): unknown {
  const bytes = Buffer.from(octets.buffer, octets.byteOffset, octets.length);
  let json: Buffer | undefined;
  let body: Buffer | undefined;
  const at = { pos: 0 };
  while (at.pos < bytes.length) {
    const tag = varint(bytes, at);
    const wireType = tag & 7;
    if (tag < 8 || tag > MAX_TAG) throw new EnvelopeError('it is no Envelope: a field has no number');
    if (wireType !== LEN) {
      skip(bytes, at, wireType);
      continue;
    }
    const length = varint(bytes, at);
    if (length > bytes.length - at.pos) throw cutOff();
    const field = bytes.subarray(at.pos, at.pos + length);
    at.pos += length;
    if (tag === JSON_TAG) [json, body] = [field, undefined];
    else if (tag === OCTETS_TAG) [json, body] = [undefined, field];
  }
  if (body !== undefined) return body;
  if (json === undefined) throw new EnvelopeError('the Envelope has no body that is known here');
  return parsed(json);
}

function cutOff(): EnvelopeError {
  return new EnvelopeError('it is no Envelope: it ends in the middle of a field');
}

/** A varint; what is above 32 bits comes out as too large a number for any length. */
function varint(bytes: Buffer, at: { pos: number }): number {
  let value = 0;
  for (let i = 0; i < MAX_VARINT; i++) {
    if (at.pos >= bytes.length) throw cutOff();
    const octet = bytes[at.pos++] as number;
    value += (octet & 0x7f) * 2 ** (7 * i);
    if (octet < 0x80) return value;
  }
  throw new EnvelopeError('it is no Envelope: a varint has more than 10 octets');
}

function skip(bytes: Buffer, at: { pos: number }, wireType: number): void {
  if (wireType === VARINT) varint(bytes, at);
  else if (wireType === I64) at.pos += 8;
  else if (wireType === I32) at.pos += 4;
  else throw new EnvelopeError(`it is no Envelope: a field has the wire type ${wireType}`);
  if (at.pos > bytes.length) throw cutOff();
}

/** Texts without any of these have no key that is refused. */
const SUSPECT = /__proto__|constructor|\\u/;

function parsed(json: Buffer): unknown {
  if (!isUtf8(json)) throw new EnvelopeError('its JSON is not UTF-8');
  const text = json.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // V8's own message quotes the text.
    throw new EnvelopeError('its JSON is not well-formed', { cause });
  }
  if (SUSPECT.test(text)) refuseKeys(value);
  return value;
}

/** Refuses keys that an assignment, or a merge of objects, would take for a prototype. Without recursion: JSON may nest. */
function refuseKeys(root: unknown): void {
  const left: object[] = isObject(root) ? [root] : [];
  for (let object = left.pop(); object !== undefined; object = left.pop()) {
    for (const [key, value] of Object.entries(object)) {
      if (
        key === '__proto__' ||
        (key === 'constructor' && isObject(value) && Object.hasOwn(value, 'prototype'))
      ) {
        throw new EnvelopeError(`its JSON has the key ${JSON.stringify(key)}, which is not taken`);
      }
      if (isObject(value)) left.push(value);
    }
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
