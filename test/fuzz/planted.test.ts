import { afterEach, describe, expect, it, vi } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import { DynamicTable } from '../../src/hpack/dynamictable.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { ErrorCode } from '../../src/http2/errors.ts';
import { type FrameHandler, FrameReader } from '../../src/http2/framereader.ts';
import { Goaway } from '../../src/http2/goaway.ts';
import { Guard } from '../../src/http2/guard.ts';
import { ReceiveWindow } from '../../src/http2/receivewindow.ts';
import { Stream } from '../../src/http2/stream.ts';
import { Streams } from '../../src/http2/streams.ts';
import { readCorpus } from './corpus.ts';
import { replayCorpus } from './replay.ts';
import { Broken } from './target.ts';
import { checkReader, target as framesTarget } from './targets/frames.ts';
import { checkDecoder, target as hpackTarget } from './targets/hpack.ts';
import { compare, target as nghttp2Target, ourVerdict, type Verdict } from './targets/nghttp2.ts';

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

  it('passes on who a caller says that it is', async () => {
    const of = HeaderList.of;
    vi.spyOn(HeaderList, 'of').mockImplementation((fields) =>
      of(
        fields.some(({ name }) => name === 'hauberk-peer')
          ? [...fields, headerField('hauberk-peer', 'x')]
          : fields,
      ),
    );
    await expect(replayCorpus('relay')).rejects.toThrow(/another caller/);
  });

  it('invents a field', async () => {
    const of = HeaderList.of;
    vi.spyOn(HeaderList, 'of').mockImplementation((fields) =>
      of([...fields, headerField('connection', 'close')]),
    );
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
