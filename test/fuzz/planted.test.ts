import { afterEach, describe, expect, it, vi } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import { DynamicTable } from '../../src/hpack/dynamictable.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { Connection } from '../../src/http2/connection.ts';
import { ErrorCode } from '../../src/http2/errors.ts';
import { type FrameHandler, FrameReader } from '../../src/http2/framereader.ts';
import { Goaway } from '../../src/http2/goaway.ts';
import { Guard } from '../../src/http2/guard.ts';
import { ReceiveWindow } from '../../src/http2/receivewindow.ts';
import { Stream } from '../../src/http2/stream.ts';
import { Streams } from '../../src/http2/streams.ts';
import { Glob } from '../../src/policy/glob.ts';
import { parseTimeout } from '../../src/relay/timeout.ts';
import { RecordError } from '../../src/transport/errors.ts';
import { decodeIdentityPayload } from '../../src/transport/identitypayload.ts';
import { makePair } from '../transport/world.ts';
import { readCorpus } from './corpus.ts';
import { replayCorpus } from './replay.ts';
import { Broken } from './target.ts';
import { target as certificateTarget, checkCertificate } from './targets/certificate.ts';
import { checkConfig, target as configTarget } from './targets/config.ts';
import { checkReader, target as framesTarget } from './targets/frames.ts';
import { checkHandshake, target as handshakeTarget } from './targets/handshake.ts';
import { checkHello, target as helloTarget } from './targets/hello.ts';
import { checkDecoder, target as hpackTarget } from './targets/hpack.ts';
import { checkPayload, target as payloadTarget } from './targets/identity-payload.ts';
import { compare, target as nghttp2Target, ourVerdict, type Verdict } from './targets/nghttp2.ts';
import { checkPlaintext, plaintextOpener, target as plaintextTarget } from './targets/record-plaintext.ts';
import { checkRecords, openerOf, target as recordsTarget } from './targets/records.ts';
import { glob, timeout } from './targets/text.ts';

/*
 * An oracle that never objects proves nothing: each is shown code that is wrong, and the corpus as it stands must find it.
 */
afterEach(() => {
  vi.restoreAllMocks();
});

/** The first claim that `run` breaks on one of the inputs. */
function brokenBy(inputs: readonly Buffer[], run: (input: Buffer) => void): string {
  for (const input of inputs) {
    try {
      run(input);
    } catch (error) {
      if (error instanceof Broken) return error.message;
      throw error;
    }
  }
  return 'nothing was broken';
}

describe('the oracle of hpack finds a decoder that', () => {
  const inputs = [...hpackTarget.seeds, ...readCorpus('hpack')];
  const LIMITS = { maxListSize: 400, maxFields: 6 };
  const broken = (decoder: () => Decoder): string =>
    brokenBy(inputs, (input) => checkDecoder(input, [decoder()], false));

  it('remembers a block although its table has changed', () => {
    class Stale extends Decoder {
      readonly #known = new Map<string, HeaderList>();
      override decode(buf: Buffer, start: number, end: number): HeaderList {
        const key = buf.toString('latin1', start, end);
        const list = this.#known.get(key) ?? super.decode(buf, start, end);
        this.#known.set(key, list);
        return list;
      }
    }
    expect(broken(() => new Stale(LIMITS))).toMatch(/differ|went on/);
  });

  it('forgets that a field is never indexed', () => {
    class Forgetful extends Decoder {
      override decode(buf: Buffer, start: number, end: number): HeaderList {
        const { fields, size, oversize } = super.decode(buf, start, end);
        return new HeaderList(
          fields.map(({ name, value }) => headerField(name, value)),
          size,
          oversize,
        );
      }
    }
    expect(broken(() => new Forgetful(LIMITS))).toMatch(/differ/);
  });

  it('ignores the size that was announced', () => {
    class Deaf extends Decoder {
      override setMaxTableSize(): void {}
    }
    expect(broken(() => new Deaf(LIMITS))).toMatch(/differ/);
  });

  it('does not evict', () => {
    vi.spyOn(DynamicTable.prototype, 'resize').mockImplementation(() => {});
    expect(broken(() => new Decoder(LIMITS))).toMatch(/above its limit/);
  });
});

describe('the oracle of frames finds a reader that', () => {
  const inputs = [...framesTarget.seeds, ...readCorpus('frames')];
  const broken = (make: (handler: FrameHandler) => { feed(chunk: Buffer): void }): string =>
    brokenBy(inputs, (input) => checkReader(input, make));

  it('loses an octet that comes alone', () => {
    class Losing {
      readonly #reader: FrameReader;
      constructor(handler: FrameHandler) {
        this.#reader = new FrameReader(handler, 16_384);
      }
      feed(chunk: Buffer): void {
        if (chunk.length > 1) this.#reader.feed(chunk);
      }
    }
    expect(broken((handler) => new Losing(handler))).toMatch(/octet by octet/);
  });

  it('allows larger frames', () => {
    expect(broken((handler) => new FrameReader(handler, 16_385))).toMatch(/in one piece/);
  });

  it('goes on when it is told to stop', () => {
    expect(
      broken(
        (handler) =>
          new FrameReader(
            {
              onFrame: (...frame) => {
                handler.onFrame(...frame);
                return true;
              },
              tooLarge: handler.tooLarge,
            },
            16_384,
          ),
      ),
    ).toMatch(/asked to stop/);
  });
});

describe('the oracle of connections finds one that', () => {
  it('sends beyond the windows', async () => {
    vi.spyOn(Stream.prototype, 'sendWindow', 'get').mockReturnValue(1_000_000);
    await expect(replayCorpus('server')).rejects.toThrow(/beyond the window of stream/);
  });

  it('does not give credit back for what goes nowhere', async () => {
    vi.spyOn(ReceiveWindow.prototype, 'discard').mockImplementation(() => {});
    await expect(replayCorpus('server')).rejects.toThrow(/has not come back/);
  });

  it('writes after its end', async () => {
    const fatal = Goaway.prototype.fatal;
    vi.spyOn(Goaway.prototype, 'fatal').mockImplementation(function (this: Goaway, code, debug) {
      fatal.call(this, code, debug);
      fatal.call(this, code, debug);
    });
    await expect(replayCorpus('server')).rejects.toThrow(/after its fatal GOAWAY/);
  });

  it('says another reason than it has', async () => {
    const fatal = Goaway.prototype.fatal;
    vi.spyOn(Goaway.prototype, 'fatal').mockImplementation(function (this: Goaway, _code, debug) {
      fatal.call(this, ErrorCode.NO_ERROR, debug);
    });
    await expect(replayCorpus('client')).rejects.toThrow(/did not say so/);
  });

  it('counts octets of a stream that is over', async () => {
    vi.spyOn(ReceiveWindow.prototype, 'abandon').mockImplementation(() => {});
    await expect(replayCorpus('server')).rejects.toThrow(/it holds/);
  });

  it('has a bug that throws', async () => {
    vi.spyOn(Guard.prototype, 'settings').mockImplementation(() => {
      throw new TypeError('a bug');
    });
    await expect(replayCorpus('client')).rejects.toThrow(/a bug of ours/);
  });

  it('answers a stream that was reset', async () => {
    vi.spyOn(Streams.prototype, 'resetByPeer').mockImplementation(() => {});
    await expect(replayCorpus('server')).rejects.toThrow(/was reset|in answer to RST_STREAM/);
  });
});

describe('the oracle of the relay finds one that', () => {
  it('lets more body pass than a request has told', async () => {
    vi.spyOn(Stream.prototype, 'countBody').mockReturnValue(true);
    await expect(replayCorpus('relay')).rejects.toThrow(/its content-length/);
  });

  it('sends what no app has sent', async () => {
    const send = Stream.prototype.send;
    vi.spyOn(Stream.prototype, 'send').mockImplementation(function (this: Stream, buf, start, end, fin) {
      const octets = Uint8Array.from(buf.subarray(start, end), (octet) => octet ^ 1);
      return send.call(this, octets, 0, octets.length, fin);
    });
    await expect(replayCorpus('relay')).rejects.toThrow(/a request that no app made/);
  });

  /** Every request that goes on has this field as well. */
  const alsoSend = (name: string, value: string): void => {
    const open = Connection.prototype.open;
    vi.spyOn(Connection.prototype, 'open').mockImplementation(function (this: Connection, list, ...rest) {
      return open.call(this, HeaderList.of([...list.fields, headerField(name, value)]), ...rest);
    });
  };

  it('passes on who a caller says that it is', async () => {
    alsoSend('hauberk-peer', 'x');
    await expect(replayCorpus('relay')).rejects.toThrow(/another caller/);
  });

  it('invents a field', async () => {
    alsoSend('connection', 'close');
    await expect(replayCorpus('relay')).rejects.toThrow(/connection-specific/);
  });
});

describe('the oracle of nghttp2 finds a server that', () => {
  const first = async (verdict: (octets: Buffer) => Verdict): Promise<string> => {
    for (const input of [...nghttp2Target.seeds, ...readCorpus('nghttp2')]) {
      try {
        await compare(input, verdict);
      } catch (error) {
        return (error as Error).message;
      }
    }
    return 'nothing was broken';
  };

  it('takes everything', async () => {
    const answered = { fatal: false, answered: [], reset: [], why: 'it takes everything' };
    expect(await first(() => answered)).toMatch(/ours: it takes everything, nghttp2: /);
  });

  it('answers what is malformed', async () => {
    const answered = { fatal: false, answered: [1, 3], reset: [], why: '' };
    expect(await first((octets) => (ourVerdict(octets).fatal ? ourVerdict(octets) : answered))).toMatch(
      /not by (nghttp2|us)/,
    );
  });
});

describe('the oracle of records finds a reader that', () => {
  it('opens what does not authenticate', () => {
    expect(
      brokenBy([...recordsTarget.seeds, ...readCorpus('records')], (input) =>
        checkRecords(input, (key) => (octets, piece) => {
          const result = openerOf(key)(octets, piece);
          if (result.reason === 'bad-record') result.opened.push([1, 'forged']);
          return result;
        }),
      ),
    ).toMatch(/not what was sealed/);
  });

  it('lets padding that is not zero pass, and floods of KEY_UPDATE', () => {
    expect(
      brokenBy([...plaintextTarget.seeds, ...readCorpus('record-plaintext')], (input) =>
        checkPlaintext(input, (octets, piece) => ({ ...plaintextOpener(octets, piece), reason: undefined })),
      ),
    ).toMatch(/the document differ/);
  });
});

describe('the oracle of the handshake finds machines that', () => {
  it('throw what is no HandshakeError', async () => {
    const pair = await makePair();
    const broken = brokenBy([...handshakeTarget.seeds, ...readCorpus('handshake')], (input) =>
      checkHandshake(input, {
        initiator: () => pair.initiator(),
        responder: () => {
          const machine = pair.responder();
          return {
            start: () => undefined,
            abort: () => machine.abort(),
            receive(chunk) {
              try {
                return machine.receive(chunk);
              } catch {
                throw new RecordError('bad-record', 'the wrong kind');
              }
            },
          };
        },
      }),
    );
    expect(broken).toMatch(/it threw/);
  });

  it('do not notice that a message was changed', async () => {
    const pair = await makePair();
    const broken = brokenBy([...handshakeTarget.seeds, ...readCorpus('handshake')], (input) => {
      let sent: Buffer | undefined;
      checkHandshake(input, {
        initiator: () => {
          const machine = pair.initiator();
          return {
            start: () => {
              sent = machine.start();
              return sent;
            },
            abort: () => machine.abort(),
            receive: (chunk) => machine.receive(chunk),
          };
        },
        responder: () => {
          const machine = pair.responder();
          let first = true;
          return {
            start: () => undefined,
            abort: () => machine.abort(),
            receive(chunk) {
              const bytes = first && sent !== undefined ? sent : chunk;
              first = false;
              return machine.receive(bytes);
            },
          };
        },
      });
    });
    expect(broken).toMatch(/was changed, and it was established/);
  });

  it('say what they were sent in their messages', async () => {
    const pair = await makePair();
    const broken = brokenBy([...helloTarget.seeds, ...readCorpus('hello')], (input) =>
      checkHello(input, () => {
        const machine = pair.responder();
        let heard = '';
        return {
          start: () => undefined,
          abort: () => machine.abort(),
          receive(chunk) {
            heard += Buffer.from(chunk).toString('latin1');
            try {
              return machine.receive(chunk);
            } catch (error) {
              (error as Error).message = heard;
              throw error;
            }
          },
        };
      }),
    );
    expect(broken).toMatch(/not printable ASCII/);
  });

  it('read a payload with something behind it', () => {
    const broken = brokenBy([...payloadTarget.seeds, ...readCorpus('identity-payload')], (input) =>
      checkPayload(input, (bytes, sender) => {
        for (let end = bytes.length; ; end--) {
          try {
            return decodeIdentityPayload(bytes.subarray(0, end), sender);
          } catch (error) {
            if (end === 0) throw error;
          }
        }
      }),
    );
    expect(broken).toMatch(/a payload was read that is none/);
  });
});

describe('the oracle of certificates finds a verifier that', () => {
  it('accepts what it has not looked at', () => {
    const broken = brokenBy([...certificateTarget.seeds, ...readCorpus('certificate')], (input) =>
      checkCertificate(input, () => ({ spiffeId: 'spiffe://shop.example/ns/default/sa/web' })),
    );
    expect(broken).toMatch(/is accepted|does not verify|not valid now|other URIs/);
  });
});

describe('the oracle of texts finds', () => {
  it('a timeout that grows, and a star that crosses a slash', () => {
    expect(() => timeout('100m', parseTimeout, () => '1S')).toThrow(/longer than/);
    expect(() => glob('/a*\n/a/b', (pattern, name) => name.startsWith(pattern.slice(0, 2)))).toThrow(Broken);
    expect(() => glob('/a*\n/a/b', (pattern, name) => new Glob(pattern).matches(name))).not.toThrow();
  });

  it('a parser of configurations that throws what it likes', () => {
    const broken = brokenBy(configTarget.seeds, (input) => checkConfig(input, JSON.parse));
    expect(broken).toMatch(/it threw SyntaxError/);
  });
});
