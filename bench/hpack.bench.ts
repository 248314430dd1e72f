/**
 * What the header codec costs: nanoseconds of processor time a block, the median of several rounds.
 *
 *     npx tsx bench/hpack.bench.ts [rounds]
 *
 * "same" is a block or list that comes again and again; "unique" has a new grpc-timeout and traceparent each
 * time; "library" is what a client that indexes them sends (nghttp2, so grpc-js and Node itself). "relay" is a
 * hop: decoded, and what came of it encoded for another connection.
 */
import { Decoder } from '../src/hpack/decoder.ts';
import { Encoder } from '../src/hpack/encoder.ts';
import { type HeaderField, headerField } from '../src/hpack/field.ts';
import { HeaderList } from '../src/hpack/headerlist.ts';

const BLOCKS = 4096;
const CALLS = 100_000;
const rounds = Number(process.argv[2] ?? 7);

const fixed = [
  headerField(':scheme', 'http'),
  headerField(':method', 'POST'),
  headerField(':authority', 'greeter.shop:50051'),
  headerField(':path', '/shop.Greeter/SayHello'),
  headerField('te', 'trailers'),
  headerField('content-type', 'application/grpc'),
  headerField('user-agent', 'grpc-node-js/1.14.7'),
  headerField('grpc-accept-encoding', 'identity,deflate,gzip'),
];
const trailers = HeaderList.of([headerField('grpc-status', '0')]);
const hex = (n: number, length: number): string => n.toString(16).padStart(length, '0');

function unique(n: number): HeaderField[] {
  return [
    headerField('grpc-timeout', `${99_000 + (n % 1000)}u`),
    headerField('traceparent', `00-${hex(n * 7919, 32)}-${hex(n * 104_729, 16)}-01`),
  ];
}

/** Literals with incremental indexing for all that is not known, as nghttp2 writes them, but raw. */
class Indexing {
  #seen: string[] = [];
  #size = 0;

  encode(fields: readonly HeaderField[]): Buffer {
    const parts: number[] = [];
    for (const { name, value, staticIndex } of fields) {
      if (staticIndex > 0) {
        parts.push(0x80 | staticIndex);
        continue;
      }
      const at = this.#seen.indexOf(`${name}\0${value}`);
      if (at >= 0) {
        const index = 62 + at;
        if (index < 127) parts.push(0x80 | index);
        else parts.push(0xff, index - 127);
        continue;
      }
      parts.push(0x40, name.length, ...Buffer.from(name), value.length, ...Buffer.from(value));
      this.#seen.unshift(`${name}\0${value}`);
      this.#size += name.length + value.length + 32;
      while (this.#size > 4096) this.#size -= (this.#seen.pop() as string).length - 1 + 32;
    }
    return Buffer.from(parts);
  }
}

interface Case {
  name: string;
  /** One round of so many blocks. */
  run: (calls: number) => void;
}

function decoding(name: string, warm: readonly Buffer[], blocks: readonly Buffer[], memo: boolean): Case {
  const decoder = new Decoder({ memo });
  for (const block of warm) decoder.decode(block, 0, block.length);
  const joined = Buffer.concat(blocks);
  const ends: number[] = [];
  let end = 0;
  for (const block of blocks) {
    end += block.length;
    ends.push(end);
  }
  return {
    name: `decode ${name}, ${Math.round(joined.length / blocks.length)} B${memo ? '' : ', no memo'}`,
    run: (calls) => {
      for (let done = 0; done < calls; done += ends.length) {
        let start = 0;
        for (let i = 0; i < ends.length; i++) {
          const stop = ends[i] as number;
          decoder.decode(joined, start, stop);
          start = stop;
        }
      }
    },
  };
}

/** `fresh`: each list is to count as one that was never seen. */
function encoding(name: string, lists: readonly HeaderList[], memo: boolean, fresh: boolean): Case {
  const encoder = new Encoder({ memo });
  for (let i = 0; i < 4; i++) encoder.encode(lists[i % lists.length] as HeaderList);
  return {
    name: `encode ${name}${memo ? '' : ', no memo'}`,
    run: (calls) => {
      for (let i = 0; i < calls; i++) {
        const list = lists[i % lists.length] as HeaderList;
        if (fresh) list.encodings = 0;
        encoder.encode(list);
      }
    },
  };
}

function relaying(name: string, warm: readonly Buffer[], blocks: readonly Buffer[]): Case {
  const decoder = new Decoder();
  const encoder = new Encoder();
  const relay = (block: Buffer) => encoder.encode(decoder.decode(block, 0, block.length));
  for (const block of warm) relay(block);
  return {
    name: `relay ${name}`,
    run: (calls) => {
      for (let i = 0; i < calls; i++) relay(blocks[i % blocks.length] as Buffer);
    },
  };
}

function blocksOf(lists: readonly HeaderList[]): { warm: Buffer[]; blocks: Buffer[] } {
  const encoder = new Encoder();
  const copy = (list: HeaderList): Buffer => {
    const length = encoder.encode(list);
    return Buffer.from(encoder.block.octets.subarray(0, length));
  };
  const warm = Array.from({ length: 3 }, () => copy(lists[0] as HeaderList));
  return { warm, blocks: lists.map(copy) };
}

function cases(): Case[] {
  const same = Array.from({ length: BLOCKS }, () => HeaderList.of(fixed));
  const differing = Array.from({ length: BLOCKS }, (_, n) => HeaderList.of([...fixed, ...unique(n)]));
  const oneList = [same[0] as HeaderList];
  const tail = Array.from({ length: BLOCKS }, () => trailers);
  const found: Case[] = [];
  for (const memo of [true, false]) {
    for (const [name, lists] of [
      ['same', same],
      ['unique', differing],
      ['trailers', tail],
    ] as const) {
      const { warm, blocks } = blocksOf(lists);
      found.push(decoding(name, warm, blocks, memo));
      if (memo) found.push(relaying(name, warm, blocks));
    }
    const indexing = new Indexing();
    // The table after the last block is not the one before the first: one pass a decoder, so a long one.
    const library = Array.from({ length: BLOCKS * 4 }, (_, n) => indexing.encode([...fixed, ...unique(n)]));
    found.push(onePass('library, unique', library, memo));
    found.push(encoding('same list', oneList, memo, false));
    found.push(encoding('new list, same fields', same, memo, true));
    found.push(encoding('unique', differing, memo, true));
    found.push(encoding('300 lists in turn', same.slice(0, 300), memo, false));
  }
  return found;
}

function onePass(name: string, blocks: readonly Buffer[], memo: boolean): Case {
  return {
    name: `decode ${name}, ${Math.round((blocks.at(-1) as Buffer).length)} B${memo ? '' : ', no memo'}`,
    run: (calls) => {
      for (let done = 0; done < calls; ) {
        const decoder = new Decoder({ memo });
        for (let i = 0; i < blocks.length && done < calls; i++, done++) {
          const block = blocks[i] as Buffer;
          decoder.decode(block, 0, block.length);
        }
      }
    },
  };
}

for (const { name, run } of cases()) {
  run(CALLS);
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage();
    run(CALLS);
    const { user, system } = process.cpuUsage(before); // on a busy machine the clock says nothing
    times.push(((user + system) * 1000) / CALLS);
  }
  times.sort((a, b) => a - b);
  process.stdout.write(
    `${name.padEnd(44)} ${(times[times.length >> 1] as number).toFixed(0).padStart(6)} ns\n`,
  );
}
