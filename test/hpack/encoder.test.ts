import { describe, expect, it } from 'vitest';
import { Encoder } from '../../src/hpack/encoder.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { PlainDecoder, type PlainField, plainInteger } from './plain.ts';

type Pair = [name: string, value: string, neverIndexed?: boolean];

const listOf = (...pairs: Pair[]): HeaderList => HeaderList.of(pairs.map((pair) => headerField(...pair)));

/** An encoder and its plain peer. */
class Link {
  readonly encoder: Encoder;
  readonly plain = new PlainDecoder(4096, { maxListSize: 10_000_000, maxFields: 1000 });

  constructor(options?: ConstructorParameters<typeof Encoder>[0]) {
    this.encoder = new Encoder(options);
  }

  announce(octets: number): void {
    this.encoder.setPeerTableSize(octets);
    this.plain.setMaxTableSize(octets);
  }

  /** The block, after the peer has read it and found the same. */
  send(list: HeaderList): Buffer {
    const length = this.encoder.encode(list);
    const block = Buffer.from(this.encoder.block.octets.subarray(0, length));
    const expected: PlainField[] = list.fields.map(({ name, value, neverIndexed }) => ({
      name,
      value,
      neverIndexed,
    }));
    expect(this.plain.decode(block).fields).toEqual(expected);
    return block;
  }

  get table(): string[] {
    return this.plain.table.entries.map(({ name, value }) => `${name}=${value}`);
  }
}

describe('what goes into the table', () => {
  it('a field of the allow-list does, the second time; then it is one octet', () => {
    const link = new Link();
    const call = (): HeaderList =>
      listOf([':path', '/shop.Greeter/SayHello'], ['content-type', 'application/grpc']);
    link.send(call());
    expect(link.table).toEqual([]);
    link.send(call());
    expect(link.table).toEqual(['content-type=application/grpc', ':path=/shop.Greeter/SayHello']);
    expect([...link.send(call())]).toEqual([0xbf, 0xbe]);
    expect(link.encoder.tableSize).toBe(link.plain.table.size);
  });

  it.each<Pair>([
    ['authorization', 'Bearer token'],
    ['proxy-authorization', 'Basic token'],
    ['cookie', 'id=1'],
    ['set-cookie', 'id=1'],
    ['trace-bin', 'AAEC'],
    ['grpc-timeout', '100m'],
    ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    ['tracestate', 'a=b'],
    ['x-request-id', '1'],
    ['x-anything', 'else'],
    [':path', '/pay?token=secret'],
    [':path', `/${'x'.repeat(300)}`],
    ['grpc-status', '1234'],
    ['content-type', 'application/grpc', true],
  ])('%s: %s never does', (...pair) => {
    const link = new Link();
    for (let i = 0; i < 10; i++) link.send(listOf(pair));
    expect(link.table).toEqual([]);
  });

  it('a never-indexed field stays so, even if the same field is in the table', () => {
    const link = new Link();
    for (let i = 0; i < 4; i++) link.send(listOf(['content-type', 'application/grpc']));
    expect(link.table).toHaveLength(1);
    expect(link.send(listOf(['content-type', 'application/grpc', true]))[0]).toBe(0x1f);
    expect(link.send(listOf([':method', 'GET', true]))[0]).toBe(0x12);
  });

  it('fields of the static table are one octet each', () => {
    expect([
      ...new Link().send(listOf([':method', 'POST'], [':scheme', 'http'], [':status', '200'])),
    ]).toEqual([0x83, 0x86, 0x88]);
  });

  it('values that never come again do not fill it', () => {
    const link = new Link();
    for (let i = 0; i < 1000; i++) link.send(listOf([':path', `/item/${i}`]));
    expect(link.table.length).toBeLessThan(5);
  });

  it('a long tail of values does not keep evicting what is in use', () => {
    const link = new Link({ maxTableSize: 400 });
    const tail = Array.from({ length: 100 }, (_, i) => listOf([':path', `/shop.Greeter/Method${i}`]));
    let changes = 0;
    for (let round = 0; round < 40; round++) {
      for (const list of tail) {
        const before = link.table[0];
        link.send(list);
        link.send(list);
        if (link.table[0] !== before) changes++;
      }
    }
    expect(changes).toBeLessThanOrEqual(8000 / 32 + 10);
    expect(changes).toBeGreaterThan(20);
  });
});

describe('the size of the table', () => {
  const call = (): HeaderList =>
    listOf([':path', '/shop.Greeter/SayHello'], ['content-type', 'application/grpc']);

  function warm(options?: ConstructorParameters<typeof Encoder>[0]): Link {
    const link = new Link(options);
    for (let i = 0; i < 4; i++) link.send(call());
    return link;
  }

  it('a reduction is said at the start of the next block, and only there', () => {
    const link = warm();
    link.announce(60);
    const block = link.send(call());
    expect([...block.subarray(0, 2)]).toEqual(plainInteger(0x20, 5, 60));
    expect(link.encoder.tableSize).toBeLessThanOrEqual(60);
    expect(link.send(call())[0]! & 0xe0).not.toBe(0x20);
  });

  it('a list that is remembered is not taken from the memo when an update is due', () => {
    const link = new Link();
    const list = call();
    for (let i = 0; i < 6; i++) link.send(list);
    link.announce(0);
    expect(link.send(list)[0]).toBe(0x20);
    for (let i = 0; i < 6; i++) link.send(list);
    expect(link.table).toEqual([]);
  });

  it('of several changes the smallest is said first, then the last', () => {
    const link = warm();
    link.announce(0);
    link.announce(2000);
    const block = link.send(call());
    expect([...block.subarray(0, 4)]).toEqual([0x20, ...plainInteger(0x20, 5, 2000)]);
  });

  it('down and back up again is said as well', () => {
    const link = warm();
    link.announce(10);
    link.announce(4096);
    expect([...link.send(call()).subarray(0, 4)]).toEqual([
      ...plainInteger(0x20, 5, 10),
      ...plainInteger(0x20, 5, 4096),
    ]);
  });

  it('more than our own limit is not used, and nothing is said', () => {
    const link = warm();
    link.announce(65_536);
    expect(link.send(call())[0]).toBe(0xbf);
    link.announce(8192);
    expect(link.send(call())[0]).toBe(0xbf);
  });

  it('a larger own limit is used when the peer allows it', () => {
    const link = warm({ maxTableSize: 65_536 });
    link.announce(65_536);
    expect([...link.send(call()).subarray(0, 4)]).toEqual(plainInteger(0x20, 5, 65_536));
  });

  it('a smaller own limit is said in the first block', () => {
    const link = new Link({ maxTableSize: 100 });
    expect([...link.send(call()).subarray(0, 2)]).toEqual(plainInteger(0x20, 5, 100));
  });
});

describe('remembered lists', () => {
  it('a list that comes again is not encoded again', () => {
    const { encoder } = new Link();
    const list = listOf([':method', 'POST'], ['x-tenant', 'blue']);
    encoder.encode(list);
    encoder.encode(list);
    encoder.encode(list);
    const { block } = encoder;
    encoder.encode(listOf(['x', 'y']));
    encoder.encode(list);
    expect(encoder.block).toBe(block);
    expect(encoder.memoOctets).toBe(block.octets.length);
  });

  it('a list whose fields went into the table is remembered once they are there', () => {
    const link = new Link();
    const list = listOf([':path', '/a.B/C'], ['x-tenant', 'blue']);
    for (let i = 0; i < 4; i++) link.send(list);
    const { block } = link.encoder;
    link.send(listOf(['x', 'y']));
    expect(link.send(list)[0]).toBe(0xbe);
    expect(link.encoder.block).toBe(block);
  });

  it('a list known from another connection goes into the table all the same', () => {
    const list = listOf([':path', '/a.B/C'], ['content-type', 'application/grpc']);
    for (let connection = 0; connection < 3; connection++) {
      const link = new Link();
      for (let i = 0; i < 3; i++) link.send(list);
      expect([...link.send(list)]).toEqual([0xbf, 0xbe]);
    }
  });

  it('a list that is encoded once is not kept', () => {
    const { encoder } = new Link();
    for (let i = 0; i < 500; i++) encoder.encode(listOf(['x-tenant', String(i)]));
    expect(encoder.memoOctets).toBe(0);
  });

  it.each<Pair>([
    ['x-secret', '1', true],
    ['authorization', 'Bearer token'],
    ['cookie', 'id=1'],
    ['set-cookie', 'id=1'],
    ['trace-bin', 'AAEC'],
  ])('a list with %s: %s is not kept', (...pair) => {
    const { encoder } = new Link();
    const list = listOf([':method', 'POST'], pair);
    for (let i = 0; i < 5; i++) encoder.encode(list);
    expect(encoder.memoOctets).toBe(0);
  });

  it('a change of the table makes it forget', () => {
    const link = new Link();
    const list = listOf([':path', '/a.B/C']);
    for (let i = 0; i < 5; i++) expect(link.send(list).length).toBeGreaterThan(0);
    for (let i = 0; i < 3; i++) link.send(listOf([':authority', 'greeter.shop:50051']));
    expect([...link.send(list)]).toEqual([0xbf]);
  });

  it('with more lists in turn than it holds, those it holds keep their place', () => {
    const { encoder } = new Link();
    const lists = Array.from({ length: 300 }, (_, i) => listOf(['x-tenant', String(i)]));
    for (let round = 0; round < 2; round++) for (const list of lists) encoder.encode(list);
    const blocks = lists.map((list) => {
      encoder.encode(list);
      return encoder.block;
    });
    const kept = lists.filter((list, i) => {
      encoder.encode(list);
      return encoder.block === blocks[i] && encoder.block.octets.length < 1024;
    });
    expect(kept).toHaveLength(128);
  });

  it('the memo is bounded', () => {
    const link = new Link();
    const lists = Array.from({ length: 300 }, (_, i) => listOf([`name-${i}`, 'v'.repeat(900)]));
    for (let round = 0; round < 3; round++) {
      for (const list of lists) {
        link.encoder.encode(list);
        expect(link.encoder.memoOctets).toBeLessThanOrEqual(32 * 1024);
      }
    }
  });
});

describe('extremes', () => {
  it('an empty list is an empty block', () => {
    expect(new Link().send(listOf())).toHaveLength(0);
  });

  it('a list of many large fields fits', () => {
    const pairs = Array.from({ length: 500 }, (_, i): Pair => [`x-${i}`, 'ÿ'.repeat(i * 7)]);
    const link = new Link();
    link.send(listOf(...pairs));
    link.send(listOf(['x', 'y']));
    expect(link.encoder.block.octets.length).toBeLessThanOrEqual(16_384);
  });

  it('a character above U+00FF is refused before it can become another one on the wire', () => {
    for (const pair of [
      ['x', '\u010a'],
      ['\u0161', 'x'],
    ] as Pair[]) {
      expect(() => listOf(pair)).toThrow(expect.objectContaining({ code: 'not-latin1', origin: 'local' }));
    }
  });

  it('a list says its size and finds the first field of a name', () => {
    const list = listOf(['a', '12'], ['a', '3']);
    expect(list.size).toBe(35 + 34);
    expect(list.get('a')).toBe('12');
    expect(list.get('b')).toBeUndefined();
  });
});
