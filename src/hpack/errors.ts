/** Why a header block, or a field given to the encoder, was refused. */
export type HpackErrorCode =
  | 'truncated-block' // the block ends inside an integer or before a string
  | 'integer-too-large' // above 2^28, or padded with needless octets (RFC 7541 5.1)
  | 'string-too-long' // a string's length reaches beyond the block (5.2)
  | 'huffman-eos' // the EOS symbol inside a string (5.2)
  | 'huffman-padding' // padding of eight bits or more, or not the start of EOS (5.2)
  | 'bad-index' // 0, or beyond both tables (2.3.3)
  | 'table-size-misplaced' // a size update after the first field (4.2)
  | 'table-size-repeated' // a third size update in one block (4.2)
  | 'table-size-too-large' // above what we announced (6.3)
  | 'table-size-missing' // we announced less and the block does not begin with an update (4.2)
  | 'not-latin1' // a name or value given to the encoder has a character above U+00FF
  | 'dead'; // the codec was used again after one of the above

/**
 * Ends the HTTP/2 connection: both sides' tables are out of step for good. The connection is closed with
 * COMPRESSION_ERROR (RFC 9113 4.3) when the peer caused it (`origin` remote).
 */
export class HpackError extends Error {
  readonly code: HpackErrorCode;
  readonly origin: 'remote' | 'local';
  readonly reach = 'connection';

  constructor(code: HpackErrorCode, message: string, options?: { origin?: 'local'; cause?: unknown }) {
    super(`HPACK: ${message}`, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'HpackError';
    this.code = code;
    this.origin = options?.origin ?? 'remote';
  }
}
