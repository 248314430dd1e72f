import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import type { LocalIdentity } from '../../src/identity/local.ts';

/*
 * A second initiator, written from docs/protocol.md alone with nothing but node:crypto, and as plainly as can be. It
 * is the slow twin of src/transport and src/noise: if the two understand one another, the document is right.
 */

const u16 = (n: number): Buffer => Buffer.of(n >> 8, n & 0xff);
const sha256 = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
const hmac = (key: Uint8Array, ...parts: Uint8Array[]): Buffer =>
  createHmac('sha256', key).update(Buffer.concat(parts)).digest();
const tlv = (type: number, value: Uint8Array): Buffer =>
  Buffer.concat([Buffer.of(type), u16(value.length), value]);

/** HKDF of Noise, section 4.3: three outputs. */
function hkdf(ck: Buffer, ikm: Buffer): [Buffer, Buffer, Buffer] {
  const temp = hmac(ck, ikm);
  const one = hmac(temp, Buffer.of(1));
  const two = hmac(temp, one, Buffer.of(2));
  return [one, two, hmac(temp, two, Buffer.of(3))];
}

function nonce(n: bigint): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64BE(n, 4);
  return bytes;
}

function seal(key: Buffer, n: bigint, ad: Buffer, plaintext: Buffer): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce(n)).setAAD(ad);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function open(key: Buffer, n: bigint, ad: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce(n)).setAAD(ad);
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

const rawPublic = (key: KeyObject): Buffer =>
  Buffer.from(key.export({ format: 'jwk' }).x as string, 'base64url');
const publicFrom = (raw: Buffer): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: raw.toString('base64url') }, format: 'jwk' });

/** One direction's records. */
export class TwinRecords {
  #key: Buffer;
  #counter = 0n;

  constructor(key: Buffer) {
    this.#key = key;
  }

  seal(type: number, payload: Buffer = Buffer.alloc(0), padding = 0): Buffer {
    const plain = Buffer.concat([Buffer.of(type), u16(payload.length), payload, Buffer.alloc(padding)]);
    const sealed = seal(this.#key, this.#counter++, Buffer.alloc(0), plain);
    if (type === 0x02) this.#rekey();
    return Buffer.concat([u16(sealed.length), sealed]);
  }

  /** The records in `bytes`, all of them whole. */
  open(bytes: Buffer): Array<{ type: number; payload: Buffer }> {
    const records: Array<{ type: number; payload: Buffer }> = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + 2 + bytes.readUInt16BE(at);
      const plain = open(this.#key, this.#counter++, Buffer.alloc(0), bytes.subarray(at + 2, end));
      records.push({ type: plain[0] as number, payload: plain.subarray(3, 3 + plain.readUInt16BE(1)) });
      if (plain[0] === 0x02) this.#rekey();
      at = end;
    }
    return records;
  }

  #rekey(): void {
    this.#key = seal(this.#key, 0xffff_ffff_ffff_ffffn, Buffer.alloc(0), Buffer.alloc(32)).subarray(0, 32);
  }
}

/** An initiator in mode 0; with `firstMode` it begins with that mode and takes the RETRY. */
export class Twin {
  readonly #identity: LocalIdentity;
  readonly #expected: string;
  readonly #e = generateKeyPairSync('x25519');
  readonly #s = generateKeyPairSync('x25519');
  #h: Buffer = Buffer.alloc(0);
  #ck: Buffer = Buffer.alloc(0);
  #k: Buffer = Buffer.alloc(0);
  #n = 0n;
  #first: Buffer | undefined;
  /** Known after message2(). */
  sessionId = '';
  sessionKey: Buffer = Buffer.alloc(0);
  send!: TwinRecords;
  receive!: TwinRecords;

  constructor(identity: LocalIdentity, expected: string) {
    this.#identity = identity;
    this.#expected = expected;
  }

  /** An opening in mode 1, with a message 1 that a responder of mode 0 does not look into. */
  startInMode1(): Buffer {
    this.#first = Buffer.concat([
      Buffer.from('48424b31' + '01' + '01' + '0003' + '00000000', 'hex'),
      this.#frame(Buffer.alloc(1216)),
    ]);
    return this.#first;
  }

  retry(frame: Buffer): Buffer {
    return this.#open(
      Buffer.from('48424b31' + '01' + '00' + '0003' + '00000000', 'hex'),
      sha256(this.#first as Buffer, frame),
    );
  }

  start(): Buffer {
    return this.#open(Buffer.from('48424b31' + '01' + '00' + '0001' + '00000000', 'hex'), Buffer.alloc(0));
  }

  /** Takes the frame of message 2, returns that of message 3. */
  message2(frame: Buffer): Buffer {
    const message = frame.subarray(3);
    const re = message.subarray(0, 32);
    this.#mixHash(re);
    this.#mixKey(this.#dh(this.#e.privateKey, re));
    const rs = this.#decryptAndHash(message.subarray(32, 80));
    this.#mixKey(this.#dh(this.#e.privateKey, rs));
    this.#decryptAndHash(message.subarray(80)); // its payload is checked by the machines' own tests

    const own = rawPublic(this.#s.publicKey);
    const s = this.#encryptAndHash(own);
    this.#mixKey(this.#dh(this.#s.privateKey, re));
    const [leaf] = this.#identity.chain as [Buffer];
    const signed = Buffer.concat([
      Buffer.from(' '.repeat(64)),
      Buffer.from('HBK1 identity, initiator'),
      Buffer.of(0),
      this.#h,
      own,
      sha256(leaf),
    ]);
    const payload = Buffer.concat([
      tlv(0x81, Buffer.concat(this.#identity.chain.map((der) => Buffer.concat([u16(der.length), der])))),
      tlv(0x82, u16(this.#identity.signatureAlgorithm)),
      tlv(0x83, this.#identity.sign(signed)),
      tlv(0x84, Buffer.from(this.#expected)),
    ]);
    const message3 = Buffer.concat([s, this.#encryptAndHash(payload)]);
    this.#keys();
    return this.#frame(message3);
  }

  #keys(): void {
    const [k1, k2, x] = hkdf(this.#ck, Buffer.alloc(0));
    this.send = new TwinRecords(k1);
    this.receive = new TwinRecords(k2);
    const id = hmac(x, Buffer.from('HBK1 session id'), this.#h, Buffer.of(1)).subarray(0, 16);
    id[6] = ((id[6] as number) & 0x0f) | 0x80;
    id[8] = ((id[8] as number) & 0x3f) | 0x80;
    this.sessionId = id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    this.sessionKey = hmac(x, Buffer.from('HBK1 session key'), this.#h, Buffer.of(1));
  }

  #open(hello: Buffer, earlier: Buffer): Buffer {
    const protocol = 'Noise_XX_25519_AESGCM_SHA256';
    this.#h = Buffer.concat([Buffer.from(protocol)], 32);
    this.#ck = this.#h;
    this.#mixHash(Buffer.concat([Buffer.from(`HBK1/1\0${protocol}\0`), hello, earlier]));
    const e = rawPublic(this.#e.publicKey);
    this.#mixHash(e);
    this.#mixHash(Buffer.alloc(0)); // the empty payload
    return Buffer.concat([hello, this.#frame(e)]);
  }

  #frame(body: Buffer): Buffer {
    return Buffer.concat([Buffer.of(1), u16(body.length), body]);
  }

  #dh(privateKey: KeyObject, remote: Buffer): Buffer {
    return diffieHellman({ privateKey, publicKey: publicFrom(remote) });
  }

  #mixHash(data: Buffer): void {
    this.#h = sha256(this.#h, data);
  }

  #mixKey(ikm: Buffer): void {
    [this.#ck, this.#k] = hkdf(this.#ck, ikm);
    this.#n = 0n;
  }

  #encryptAndHash(plaintext: Buffer): Buffer {
    const sealed = seal(this.#k, this.#n++, this.#h, plaintext);
    this.#mixHash(sealed);
    return sealed;
  }

  #decryptAndHash(sealed: Buffer): Buffer {
    const plaintext = open(this.#k, this.#n++, this.#h, sealed);
    this.#mixHash(sealed);
    return plaintext;
  }
}
