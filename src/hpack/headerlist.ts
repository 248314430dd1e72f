import type { HeaderField } from './field.ts';

/**
 * An ordered list of header fields, duplicates kept (RFC 7541 1.3). Immutable but for the owner's slot: the
 * decoder's memo returns one object again and again, and the encoder recognises it by identity. Whoever needs
 * another list makes a new one, best once, kept in `derived` of the list it comes from.
 */
export class HeaderList {
  readonly fields: readonly HeaderField[];
  /** RFC 9113 6.5.2: octets of names and values and 32 a field, of all fields that came, also the dropped ones. */
  readonly size: number;
  /** A limit was crossed: `fields` holds only what came before that. The decoder goes on working. */
  readonly oversize: boolean;
  /** What an owner derived from this list; null until then. Memoised lists keep it over calls. */
  derived: unknown = null;
  /** How often an encoder met this list without its memo: only what comes again is worth memoising. */
  encodings = 0;

  constructor(fields: readonly HeaderField[], size: number, oversize: boolean) {
    this.fields = fields;
    this.size = size;
    this.oversize = oversize;
  }

  static of(fields: readonly HeaderField[]): HeaderList {
    let size = 0;
    for (const field of fields) size += field.size;
    return new HeaderList(fields, size, false);
  }

  /** The value of the first field with this name. */
  get(name: string): string | undefined {
    const fields = this.fields;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i] as HeaderField;
      if (field.name === name) return field.value;
    }
    return undefined;
  }
}
