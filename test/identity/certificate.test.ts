import { describe, expect, it } from 'vitest';
import {
  bundleOf,
  extension,
  Field,
  forgeCa,
  forgeLeaf,
  LEAF_ID,
  outcome,
  type Recipe,
  resigned,
  tlv,
} from './forge.ts';

const root = await forgeCa();
const bundle = bundleOf(root);

describe('a certificate is refused that', () => {
  const edited = async (edit: (fields: Buffer[]) => Uint8Array[]): Promise<string> =>
    outcome(bundle, [await resigned(await forgeLeaf(root), root, edit)]);
  const replace = (index: number, by: Uint8Array) => (fields: Buffer[]) => fields.with(index, by as Buffer);

  it('nobody has touched, except for the test of the test', async () => {
    expect(await edited((fields) => fields)).toBe(LEAF_ID);
  });

  it.each<[what: string, edit: (fields: Buffer[]) => Uint8Array[], code: string]>([
    ['is of version 1', (fields) => fields.slice(1), 'malformed-certificate'],
    ['is of version 1 without extensions', (fields) => fields.slice(1, 7), 'malformed-certificate'],
    ['is of version 2', replace(0, tlv(0xa0, tlv(2, Buffer.from([1])))), 'malformed-certificate'],
    ['is of version 4', replace(0, tlv(0xa0, tlv(2, Buffer.from([3])))), 'malformed-certificate'],
    ['has no extensions', (fields) => fields.slice(0, 7), 'key-usage'],
    ['has a negative serial number', replace(1, tlv(2, Buffer.from([0x80]))), 'malformed-certificate'],
    ['has a serial number of 21 bytes', replace(1, tlv(2, Buffer.alloc(21, 1))), 'malformed-certificate'],
    [
      'has a serial number in a longer form',
      replace(1, tlv(2, Buffer.from([0, 1]))),
      'malformed-certificate',
    ],
    [
      'names another algorithm inside',
      replace(2, tlv(0x30, tlv(6, Buffer.from('2a8648ce3d040303', 'hex')))),
      'malformed-certificate',
    ],
    [
      'has an issuer unique id',
      (fields) => fields.toSpliced(Field.extensions, 0, tlv(0x81, Buffer.from([0, 1]))),
      'malformed-certificate',
    ],
    ['has a field after its extensions', (fields) => [...fields, tlv(5)], 'malformed-certificate'],
    [
      'has an empty list of extensions',
      replace(Field.extensions, tlv(0xa3, tlv(0x30))),
      'malformed-certificate',
    ],
    [
      'has a validity with local time',
      replace(
        Field.validity,
        tlv(0x30, tlv(0x17, Buffer.from('2606011200+0200')), tlv(0x17, Buffer.from('270601120000Z'))),
      ),
      'malformed-certificate',
    ],
    [
      'ends on the 30th of February',
      replace(
        Field.validity,
        tlv(0x30, tlv(0x17, Buffer.from('260101120000Z')), tlv(0x17, Buffer.from('270230120000Z'))),
      ),
      'malformed-certificate',
    ],
    [
      'ends at 24:00',
      replace(
        Field.validity,
        tlv(0x30, tlv(0x17, Buffer.from('260101120000Z')), tlv(0x17, Buffer.from('270201240000Z'))),
      ),
      'malformed-certificate',
    ],
  ])('%s', async (_what, edit, code) => {
    expect(await edited(edit)).toBe(code);
  });

  it.each<[what: string, oid: string, contents: Buffer]>([
    ['says FALSE for the CA flag at length', '2.5.29.19', tlv(0x30, tlv(1, Buffer.from([0])))],
    ['says TRUE in another way than DER', '2.5.29.19', tlv(0x30, tlv(1, Buffer.from([1])))],
    ['has a path length and no CA flag', '2.5.29.19', tlv(0x30, tlv(2, Buffer.from([0])))],
    [
      'has a negative path length',
      '2.5.29.19',
      tlv(0x30, tlv(1, Buffer.from([0xff])), tlv(2, Buffer.from([0xff]))),
    ],
    [
      'has a path length of 256',
      '2.5.29.19',
      tlv(0x30, tlv(1, Buffer.from([0xff])), tlv(2, Buffer.from([1, 0]))),
    ],
    ['has bytes after its basic constraints', '2.5.29.19', Buffer.concat([tlv(0x30), Buffer.from([0])])],
    ['has an empty key usage', '2.5.29.15', tlv(3, Buffer.from([0]))],
    ['has a key usage without any octet', '2.5.29.15', tlv(3)],
    ['has a key usage with unused bits set', '2.5.29.15', tlv(3, Buffer.from([7, 0x81]))],
    ['has a key usage with 8 unused bits', '2.5.29.15', tlv(3, Buffer.from([8, 0x80]))],
    ['has an empty list of purposes', '2.5.29.37', tlv(0x30)],
    ['has an empty list of names', '2.5.29.17', tlv(0x30)],
    ['has a URI with a byte above ASCII', '2.5.29.17', tlv(0x30, tlv(0x86, Buffer.from([0xe4])))],
    ['has a URI in pieces', '2.5.29.17', tlv(0x30, tlv(0xa6, tlv(0x86, Buffer.from(LEAF_ID))))],
    ['has a name of an unknown form', '2.5.29.17', tlv(0x30, tlv(0x89, Buffer.from('x')))],
    ['has a name of a universal tag', '2.5.29.17', tlv(0x30, tlv(0x16, Buffer.from('x')))],
  ])('%s', async (_what, oid, contents) => {
    const recipe: Recipe = { more: [extension(oid, true, contents)] };
    if (oid === '2.5.29.19') recipe.ca = 'absent';
    if (oid === '2.5.29.15') recipe.usage = 'absent';
    if (oid === '2.5.29.17') recipe.uris = [];
    expect(outcome(bundle, [await forgeLeaf(root, recipe)])).toBe('malformed-certificate');
  });

  it('says FALSE for a critical flag at length', async () => {
    const code = await edited((fields) =>
      fields.with(
        Field.extensions,
        tlv(0xa3, tlv(0x30, tlv(0x30, tlv(6, Buffer.from([42, 3])), tlv(1, Buffer.from([0])), tlv(4)))),
      ),
    );
    expect(code).toBe('malformed-certificate');
  });

  it('goes on after its end', async () => {
    const { der } = await forgeLeaf(root);
    expect(outcome(bundle, [Buffer.concat([der, Buffer.from([0])])])).toBe('malformed-certificate');
  });

  it('has a key that is not a point on its curve', async () => {
    const leaf = await forgeLeaf(root);
    const code = await edited((fields) => {
      const spki = Buffer.from(fields[Field.spki] as Buffer);
      spki.fill(0x11, spki.length - 64);
      return fields.with(Field.spki, spki);
    });
    expect(leaf.kind).toBe('p256');
    expect(code).toBe('malformed-certificate');
  });

  it('has a curve that is spelled out, or a compressed point', async () => {
    const spelled = tlv(
      0x30,
      tlv(0x30, tlv(6, Buffer.from('2a8648ce3d0201', 'hex')), tlv(0x30)),
      tlv(3, Buffer.alloc(66)),
    );
    expect(await edited(replace(Field.spki, spelled))).toBe('unsupported-algorithm');
    const id = tlv(
      0x30,
      tlv(6, Buffer.from('2a8648ce3d0201', 'hex')),
      tlv(6, Buffer.from('2a8648ce3d030107', 'hex')),
    );
    const compressed = tlv(0x30, id, tlv(3, Buffer.concat([Buffer.from([0, 2]), Buffer.alloc(32, 7)])));
    expect(await edited(replace(Field.spki, compressed))).toBe('malformed-certificate');
  });
});
