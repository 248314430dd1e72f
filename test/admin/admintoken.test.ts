import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { AdminToken, readAdminToken } from '../../src/admin/admintoken.ts';

const folder = await mkdtemp(join(tmpdir(), 'hauberk-token-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

let files = 0;
async function file(content: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = join(folder, `token-${++files}`);
  await writeFile(path, content);
  await chmod(path, mode);
  return path;
}

const TOKEN = 'A1+/='.repeat(8);

it('a token is what its file holds, less the space around it', async () => {
  expect(await readAdminToken(await file(`  ${TOKEN}\r\n`))).toBe(TOKEN);
});

it.each([
  ['too short', 'x'.repeat(31)],
  ['too long', 'x'.repeat(513)],
  ['of two words', `${TOKEN} ${TOKEN}`],
  ['of two lines', `${TOKEN}\n${TOKEN}`],
  ['not printable', `${TOKEN}\0`],
  ['empty', ''],
])('a token that is %s is refused, and not shown', async (_what, content) => {
  const error = await readAdminToken(await file(content)).catch((refused: Error) => refused);
  expect(error).toMatchObject({ code: 'bad-token' });
  expect(String(error)).not.toMatch(/A1\+|xxx/); // the folder's name may have an A1
});

it('a token that others can read is refused, and one that is not there', async () => {
  await expect(readAdminToken(await file(TOKEN, 0o640))).rejects.toMatchObject({
    code: 'key-readable-by-others',
  });
  await expect(readAdminToken(join(folder, 'none'))).rejects.toThrow(/head -c 32/);
});

it('only the token itself is admitted', () => {
  const token = new AdminToken(TOKEN);
  expect(token.admits(`Bearer ${TOKEN}`)).toBe(true);
  expect(token.admits(`bearer ${TOKEN}`)).toBe(true);
  const others = [
    undefined,
    '',
    TOKEN,
    'Bearer ',
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN} `,
    `Basic ${TOKEN}`,
    7,
    Buffer.from(`Bearer ${TOKEN}`),
  ];
  expect(others.map((given) => token.admits(given))).toEqual(others.map(() => false));
  expect(JSON.stringify(token)).not.toContain('A1');
});
