import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatBlocks, parseBlocks } from '../../src/session/blockfile.ts';
import { Blocks } from '../../src/session/blocks.ts';
import { BlockError } from '../../src/session/errors.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const WEB = 'spiffe://shop.example/ns/shop/sa/web';
const CART = 'spiffe://shop.example/ns/shop/sa/cart';
const SINCE = '2026-01-01T00:00:00.000Z';
const HEADER = '{"hauberk":"blocked peers","version":1}';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-blocks-'));
  path = join(folder, 'blocked.jsonl');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const open = (clock = new FakeClock()): Promise<Blocks> => Blocks.open(clock, path);

async function errorOf(attempt: Promise<unknown>): Promise<BlockError> {
  const error = await attempt.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(BlockError);
  return error as BlockError;
}

describe('a block', () => {
  it('holds at once, and over a restart until the peer is allowed', async () => {
    const blocks = await open();
    const { blocked, held } = blocks.block([WEB], 'key leaked');
    expect(blocks.has(WEB)).toBe(true);
    expect(blocked).toEqual([{ peer: WEB, since: SINCE, reason: 'key leaked' }]);
    expect(await held).toEqual({ until: 'allowed' });

    const again = await open();
    expect([again.has(WEB), again.has(CART), again.size]).toEqual([true, false, 1]);
    expect(again.list()).toEqual(blocked);
    expect(await again.allow(WEB)).toEqual(blocked[0]);
    expect(again.has(WEB)).toBe(false);
    expect((await open()).list()).toEqual([]);
  });

  it('of a blocked peer keeps its time and takes the new reason', async () => {
    const clock = new FakeClock();
    const blocks = await open(clock);
    blocks.block([WEB], 'first');
    clock.advance(5000);
    blocks.block([CART], 'other');
    await blocks.block([WEB], 'second').held;
    expect((await open()).list()).toEqual([
      { peer: WEB, since: SINCE, reason: 'second' },
      { peer: CART, since: '2026-01-01T00:00:05.000Z', reason: 'other' },
    ]);
  });

  it('without a file holds until the restart, and says so', async () => {
    const blocks = await Blocks.open(new FakeClock(), undefined);
    expect(await blocks.block([WEB], 'key leaked').held).toEqual({
      until: 'restart',
      why: 'revocation.file is not configured',
    });
    expect(blocks.has(WEB)).toBe(true);
    expect(await blocks.allow(WEB)).toMatchObject({ peer: WEB });
    expect(blocks.has(WEB)).toBe(false);
  });

  it('that cannot be written is in force all the same, and says why it ends with the process', async () => {
    const blocks = await open();
    await rm(folder, { recursive: true });
    const hold = await blocks.block([WEB], 'key leaked').held;
    expect(hold).toMatchObject({ until: 'restart', why: expect.stringContaining('cannot be written') });
    expect(blocks.has(WEB)).toBe(true);
    // The next write that works has it.
    await mkdir(folder);
    expect(await blocks.block([CART], 'too').held).toEqual({ until: 'allowed' });
    expect((await open()).list().map(({ peer }) => peer)).toEqual([WEB, CART]);
  });

  it.each([
    ['not a SPIFFE ID', 'bad-peer', ['web'], 'because'],
    ['of a trust domain', 'bad-peer', ['spiffe://shop.example'], 'because'],
    ['with a glob', 'bad-peer', ['spiffe://shop.example/ns/*/sa/web'], 'because'],
    ['without a reason', 'bad-reason', [WEB], ''],
    ['with a long reason', 'bad-reason', [WEB], 'x'.repeat(257)],
    ['with a line break in its reason', 'bad-reason', [WEB], 'one\ntwo'],
    ['with half a surrogate pair in its reason', 'bad-reason', [WEB], '\ud800'],
  ])('%s is refused, and nothing is blocked', async (_what, code, peers, reason) => {
    const blocks = await open();
    expect(() => blocks.block([CART, ...peers], reason)).toThrow(expect.objectContaining({ code }));
    expect(blocks.size).toBe(0);
  });

  it('beyond 10,000 peers is refused', async () => {
    const blocks = await Blocks.open(new FakeClock(), undefined);
    const peers = Array.from({ length: 10_000 }, (_, i) => `${WEB}${i}`);
    blocks.block(peers, 'many');
    expect(() => blocks.block([WEB], 'one more')).toThrow(expect.objectContaining({ code: 'too-many' }));
    expect(blocks.has(WEB)).toBe(false);
    // One that is blocked already takes no place.
    blocks.block([peers[7] as string], 'another reason');
    expect(blocks.size).toBe(10_000);
  });
});

describe('allowing a peer', () => {
  it('waits for the file: a peer whose release is not written stays blocked', async () => {
    const blocks = await open();
    await blocks.block([WEB], 'key leaked').held;
    await rm(folder, { recursive: true });
    expect((await errorOf(blocks.allow(WEB))).code).toBe('not-written');
    expect(blocks.has(WEB)).toBe(true);
  });

  it('does not lift a block that came while it was being written', async () => {
    const blocks = await open();
    await blocks.block([WEB], 'first').held;
    const allowed = blocks.allow(WEB);
    // The write of the release is under way: the file system is asked in a later turn.
    await Promise.resolve();
    const { held } = blocks.block([WEB], 'second');
    expect(await allowed).toBeUndefined();
    expect(await held).toEqual({ until: 'allowed' });
    expect(blocks.list()).toMatchObject([{ peer: WEB, reason: 'second' }]);
    expect((await open()).list()).toMatchObject([{ peer: WEB, reason: 'second' }]);
  });

  it('of several at a time leaves the others blocked', async () => {
    const blocks = await open();
    blocks.block([WEB, CART], 'both');
    const third = `${WEB}3`;
    const [one, two] = [blocks.allow(WEB), blocks.allow(CART)];
    const { held } = blocks.block([third], 'new');
    await Promise.all([one, two, held]);
    expect((await open()).list().map(({ peer }) => peer)).toEqual([third]);
  });

  it('of one that is not blocked changes nothing', async () => {
    const blocks = await open();
    expect(await blocks.allow(WEB)).toBeUndefined();
  });
});

describe('the file', () => {
  it('is made at the first start, readable by its owner only, and nothing is left beside it', async () => {
    const blocks = await open();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await blocks.block([WEB], 'key leaked').held;
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(['blocked.jsonl']);
    expect((await readFile(path, 'utf8')).split('\n').slice(0, 2)).toEqual([
      HEADER,
      JSON.stringify({ peer: WEB, since: SINCE, reason: 'key leaked' }),
    ]);
  });

  it('keeps any reason that is taken', async () => {
    const reason = 'Schlüssel "weg" \\ 鍵 🔑';
    await (await open()).block([WEB], reason).held;
    expect((await open()).list()).toMatchObject([{ reason }]);
  });

  it('that others may write is not believed', async () => {
    await open();
    await chmod(path, 0o622);
    const { code, message } = await errorOf(open());
    expect(code).toBe('file-unreadable');
    expect(message).toContain(`${path}: others than its owner can change it (mode 0622); chmod go-w`);
  });

  it('is refused if it is a folder, or a link that leads nowhere', async () => {
    await mkdir(path);
    expect((await errorOf(open())).code).toBe('file-unreadable');
    await rm(path, { recursive: true });
    const { code, message } = await errorOf(Blocks.open(new FakeClock(), join(path, 'in', 'none')));
    expect(code).toBe('not-written');
    expect(message).toContain(`make its folder: mkdir -p ${join(path, 'in')}`);
    expect(dirname(path)).toBe(folder);
    await symlink(join(folder, 'elsewhere'), path);
    // The link is replaced by a file of our own, as any other state before would be.
    expect((await open()).list()).toEqual([]);
  });
});

describe('a damaged file', () => {
  const entry = (peer: string, more: object = {}) =>
    JSON.stringify({ peer, since: SINCE, reason: 'r', ...more });
  /** A file of these lines with a footer that fits them. */
  const sealed = (...lines: string[]) => {
    const above = lines.map((line) => `${line}\n`).join('');
    const sha256 = createHash('sha256').update(above).digest('hex');
    return `${above}${JSON.stringify({ peers: lines.length - 1, sha256 })}\n`;
  };
  const good = formatBlocks([
    { peer: WEB, since: SINCE, reason: 'one' },
    { peer: CART, since: SINCE, reason: 'two' },
  ]);

  it('stops the sidecar, which is told file, line and cure', async () => {
    await writeFile(path, good.replace('one', 'One'), { mode: 0o600 });
    const { code, message } = await errorOf(open());
    expect(code).toBe('file-damaged');
    expect(message).toMatch(/blocked\.jsonl: line 4: the checksum .*; restore it from a copy; if no peer/);
    expect(message.startsWith(path)).toBe(true);
    // It is left as it is.
    expect(await readFile(path, 'utf8')).toBe(good.replace('one', 'One'));
  });

  it('is not the one that the tests make', () => {
    expect(parseBlocks(Buffer.from(good), 'f')).toHaveLength(2);
    expect(parseBlocks(Buffer.from(sealed(HEADER, entry(WEB))), 'f')).toHaveLength(1);
  });

  it.each([
    ['empty', '', 1, 'expected {"hauberk"'],
    ['of another version', sealed(HEADER.replace('1}', '2}')), 1, 'expected {"hauberk"'],
    ['only a header', `${HEADER}\n`, 2, 'cut off'],
    ['without its last line feed', good.slice(0, -1), 4, 'cut off'],
    ['without its footer', good.split('\n').slice(0, 3).join('\n').concat('\n'), 3, 'checksum'],
    ['without an entry', good.split('\n').toSpliced(1, 1).join('\n'), 3, 'checksum'],
    ['with an entry twice', sealed(HEADER, entry(WEB), entry(WEB)), 3, 'twice'],
    ['with a line too many', `${good}\n`, 4, 'not JSON|expected peer'],
    ['with an empty line', sealed(HEADER, ''), 2, 'not JSON'],
    ['with something that is no entry', sealed(HEADER, 'null'), 2, 'expected peer, since and reason'],
    ['with a list', sealed(HEADER, '[]'), 2, 'expected peer, since and reason'],
    ['with a field more', sealed(HEADER, entry(WEB, { by: 'me' })), 2, 'nothing else'],
    ['with a space more', sealed(HEADER, entry(WEB).replace(':', ': ')), 2, 'nothing else'],
    ['with a field twice', sealed(HEADER, entry(WEB).replace('{', '{"peer":"x",')), 2, 'nothing else'],
    [
      'with a time that is none',
      sealed(HEADER, entry(WEB, { since: '2026-02-30T00:00:00.000Z' })),
      2,
      'no time',
    ],
    ['with another form of time', sealed(HEADER, entry(WEB, { since: '2026-01-01' })), 2, 'no time'],
    ['with a peer that is none', sealed(HEADER, entry('spiffe://shop.example')), 2, 'with a path'],
    ['with no reason', sealed(HEADER, entry(WEB, { reason: '' })), 2, 'a reason has'],
    ['with carriage returns', good.replaceAll('\n', '\r\n'), 1, 'expected {"hauberk"'],
    ['with a byte order mark', `\ufeff${good}`, 1, 'expected {"hauberk"'],
  ])('%s: the line is named', (_what, text, line, why) => {
    let found: unknown;
    try {
      parseBlocks(Buffer.from(text), 'state/blocked.jsonl');
    } catch (error) {
      found = error;
    }
    expect(found).toMatchObject({
      code: 'file-damaged',
      message: expect.stringMatching(new RegExp(`^state/blocked\\.jsonl: line ${line}: .*(${why})`)),
    });
  });

  it('that is not UTF-8: the line is named', () => {
    const bytes = Buffer.from(good);
    bytes[bytes.indexOf('two')] = 0xff;
    expect(() => parseBlocks(bytes, 'f')).toThrow(/^f: line 3: this is not UTF-8; /);
  });

  it('is found wherever one octet is changed or the end is missing', () => {
    const bytes = Buffer.from(good);
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      expect(() => parseBlocks(changed, 'f'), `octet ${at}`).toThrow(BlockError);
      expect(() => parseBlocks(bytes.subarray(0, at), 'f'), `${at} octets`).toThrow(BlockError);
    }
  });
});
