/** How a header block says each of its fields (RFC 7541 section 6), without size updates. */
export function representations(block: Buffer): Array<'indexed' | 'incremental' | 'never' | 'without'> {
  const forms: Array<'indexed' | 'incremental' | 'never' | 'without'> = [];
  let at = 0;
  const integer = (bits: number): number => {
    const most = 2 ** bits - 1;
    let value = block.readUInt8(at++) & most;
    if (value < most) return value;
    for (let shift = 0; ; shift += 7) {
      const octet = block.readUInt8(at++);
      value += (octet & 0x7f) * 2 ** shift;
      if (octet < 0x80) return value;
    }
  };
  const skip = (octets: number): void => {
    at += octets;
  };
  const literal = (bits: number): void => {
    if (integer(bits) === 0) skip(integer(7)); // a new name
    skip(integer(7)); // the value
  };
  while (at < block.length) {
    const first = block.readUInt8(at);
    if (first >= 0x80) {
      integer(7);
      forms.push('indexed');
    } else if (first >= 0x40) {
      literal(6);
      forms.push('incremental');
    } else if (first >= 0x20) {
      integer(5);
    } else {
      literal(4);
      forms.push(first >= 0x10 ? 'never' : 'without');
    }
  }
  return forms;
}
