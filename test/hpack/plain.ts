import hpack from 'hpack.js';

/**
 * The slow, plain twin of src/hpack: strings of bits, arrays and no cache of any kind. It shares no code with the
 * codec; its Huffman code and static table are those of hpack.js.
 */
export interface PlainField {
  name: string;
  value: string;
  neverIndexed: boolean;
}

export interface PlainList {
  fields: PlainField[];
  size: number;
  oversize: boolean;
}

const STATIC = hpack['static-table'].table;
const BITS = hpack.huffman.encode.map(([length, code]) => (code >>> 0).toString(2).padStart(length, '0'));
const SYMBOLS = new Map(BITS.map((bits, symbol) => [bits, symbol]));

export function plainHuffmanEncode(text: string): number[] {
  let bits = [...text].map((character) => BITS[character.charCodeAt(0)]).join('');
  while (bits.length % 8 !== 0) bits += '1';
  return (bits.match(/.{8}/g) ?? []).map((octet) => Number.parseInt(octet, 2));
}

export function plainHuffmanDecode(octets: readonly number[]): string {
  let bits = '';
  let text = '';
  for (const bit of octets.map((octet) => octet.toString(2).padStart(8, '0')).join('')) {
    bits += bit;
    const symbol = SYMBOLS.get(bits);
    if (symbol === undefined) continue;
    if (symbol === 256) throw new Error('EOS');
    text += String.fromCharCode(symbol);
    bits = '';
  }
  if (!/^1{0,7}$/.test(bits)) throw new Error('padding');
  return text;
}

class PlainTable {
  entries: PlainField[] = [];
  capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.entries.reduce((sum, { name, value }) => sum + name.length + value.length + 32, 0);
  }

  insert(name: string, value: string): void {
    this.entries.unshift({ name, value, neverIndexed: false });
    this.resize(this.capacity);
  }

  resize(capacity: number): void {
    this.capacity = capacity;
    while (this.size > capacity) this.entries.pop();
  }

  at(index: number): PlainField {
    if (index === 0) throw new Error('index 0');
    const entry = index <= 61 ? STATIC[index - 1] : this.entries[index - 62];
    if (entry === undefined) throw new Error('index beyond the tables');
    return { name: entry.name, value: entry.value, neverIndexed: false };
  }

  find(matches: (entry: { name: string; value: string }) => boolean): number {
    return [...STATIC, ...this.entries].findIndex(matches) + 1;
  }
}

export class PlainDecoder {
  readonly table: PlainTable;
  #announced: number;
  #required: number | undefined;
  readonly #limits: { maxListSize: number; maxFields: number };

  constructor(announced = 4096, limits = { maxListSize: 65_536, maxFields: 128 }) {
    this.table = new PlainTable(announced);
    this.#announced = announced;
    this.#limits = limits;
  }

  setMaxTableSize(octets: number): void {
    this.#announced = octets;
    if (octets < this.table.capacity) this.#required = Math.min(octets, this.#required ?? octets);
  }

  decode(block: Uint8Array): PlainList {
    const octets = [...block];
    const fields: PlainField[] = [];
    let updates = 0;
    let any = false;
    const octet = (): number => {
      if (octets.length === 0) throw new Error('truncated');
      return octets.shift() as number;
    };
    const integer = (first: number, bits: number): number => {
      const prefix = 2 ** bits - 1;
      let value = first & prefix;
      if (value < prefix) return value;
      for (let shift = 0; ; shift += 7) {
        if (shift > 21) throw new Error('integer');
        const next = octet();
        value += (next % 128) * 2 ** shift;
        if (next < 128) return value;
      }
    };
    const string = (): string => {
      const first = octet();
      const length = integer(first, 7);
      if (length > octets.length) throw new Error('string');
      const taken = octets.splice(0, length);
      return first >= 128 ? plainHuffmanDecode(taken) : String.fromCharCode(...taken);
    };
    const literal = (index: number): [string, string] => {
      const name = index === 0 ? string() : this.table.at(index).name;
      return [name, string()];
    };

    while (octets.length > 0) {
      const first = octet();
      if (first >= 0x20 && first < 0x40) {
        const size = integer(first, 5);
        if (any || ++updates > 2) throw new Error('misplaced size update');
        if (size > (this.#required ?? this.#announced)) throw new Error('size update too large');
        this.#required = undefined;
        this.table.resize(size);
        continue;
      }
      if (this.#required !== undefined) throw new Error('size update missing');
      any = true;
      if (first >= 0x80) {
        fields.push(this.table.at(integer(first, 7)));
      } else if (first >= 0x40) {
        const [name, value] = literal(integer(first, 6));
        this.table.insert(name, value);
        fields.push({ name, value, neverIndexed: false });
      } else {
        const [name, value] = literal(integer(first, 4));
        fields.push({ name, value, neverIndexed: first >= 0x10 });
      }
    }
    if (this.#required !== undefined) throw new Error('size update missing');
    return this.#limited(fields);
  }

  #limited(fields: PlainField[]): PlainList {
    let size = 0;
    let kept: number | undefined;
    fields.forEach(({ name, value }, i) => {
      size += name.length + value.length + 32;
      if (size > this.#limits.maxListSize || i >= this.#limits.maxFields) kept ??= i;
    });
    return { fields: fields.slice(0, kept), size, oversize: kept !== undefined };
  }
}

export interface PlainChoice {
  /** What to do with a field that is in no table. */
  form: 'incremental' | 'without' | 'never';
  huffman: boolean;
  /** Use an index for the whole field or its name where there is one. */
  index: boolean;
}

/** Encodes as it is told, so that it can play any encoder. */
export class PlainEncoder {
  readonly table: PlainTable;

  constructor(capacity = 4096) {
    this.table = new PlainTable(capacity);
  }

  resize(capacity: number): number[] {
    this.table.resize(capacity);
    return plainInteger(0x20, 5, capacity);
  }

  encode(name: string, value: string, choice: PlainChoice): number[] {
    const whole = this.table.find((entry) => entry.name === name && entry.value === value);
    if (choice.index && whole > 0 && choice.form !== 'never') return plainInteger(0x80, 7, whole);
    const named = choice.index ? this.table.find((entry) => entry.name === name) : 0;
    const head = { incremental: [0x40, 6], without: [0x00, 4], never: [0x10, 4] }[choice.form] as [
      number,
      number,
    ];
    const octets = plainInteger(head[0], head[1], named);
    if (named === 0) octets.push(...this.#string(name, choice.huffman));
    octets.push(...this.#string(value, choice.huffman));
    if (choice.form === 'incremental') this.table.insert(name, value);
    return octets;
  }

  #string(text: string, huffman: boolean): number[] {
    const octets = huffman ? plainHuffmanEncode(text) : [...Buffer.from(text, 'latin1')];
    return [...plainInteger(huffman ? 0x80 : 0, 7, octets.length), ...octets];
  }
}

export function plainInteger(first: number, bits: number, value: number): number[] {
  const prefix = 2 ** bits - 1;
  if (value < prefix) return [first + value];
  const octets = [first + prefix];
  value -= prefix;
  for (; value >= 128; value = Math.floor(value / 128)) octets.push((value % 128) + 128);
  return [...octets, value];
}
