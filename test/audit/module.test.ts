import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAdapters } from '../../src/audit/adapters/adapters.ts';
import { loadModuleAdapter } from '../../src/audit/adapters/module.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { call, recorderOf, turns } from './collector.ts';

let folder: string;
const clock = new FakeClock();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-module-'));
});

afterAll(() => rm(folder, { recursive: true }));

async function load(name: string, source: string, options?: Record<string, unknown>) {
  await writeFile(join(folder, name), source);
  return loadModuleAdapter(
    { module: `./${name}`, folder, ...(options === undefined ? {} : { options }) },
    clock,
  );
}

const seen = (key: string): unknown => (globalThis as Record<string, unknown>)[key];

describe('a module adapter', () => {
  it('may export a function, which gets the options', async () => {
    const adapter = await load(
      'function.mjs',
      `export default (options) => ({ name: options.name, write(events) { globalThis.hauberkSeen = events; } });`,
      { name: 'mine' },
    );
    expect(adapter.name).toBe('mine');
    const { recorder } = recorderOf([adapter]);
    recorder.record(call());
    await recorder.flush();
    expect(seen('hauberkSeen')).toMatchObject([{ type: 'call.completed', seq: 1 }]);
  });

  it('may export an async function', async () => {
    const adapter = await load('async.mjs', `export default async () => ({ write() {} });`);
    expect(adapter.name).toBe('async.mjs');
  });

  it('may export the object itself, even one with private state', async () => {
    const adapter = await load(
      'object.mjs',
      `class Mine { #n = 0; write(events) { this.#n += events.length; globalThis.hauberkCount = this.#n; } close() { globalThis.hauberkCount = 'closed'; } }
       export default new Mine();`,
    );
    adapter.write([]);
    expect(seen('hauberkCount')).toBe(0);
    await adapter.flush?.();
    await adapter.close?.();
    expect(seen('hauberkCount')).toBe('closed');
  });

  it('may be CommonJS', async () => {
    const adapter = await load('common.cjs', `module.exports = () => ({ write() {} });`);
    expect(adapter.name).toBe('common.cjs');
  });

  it('may be a package installed beside the configuration file', async () => {
    await mkdir(join(folder, 'node_modules/my-adapter'), { recursive: true });
    await writeFile(
      join(folder, 'node_modules/my-adapter/package.json'),
      '{"name":"my-adapter","main":"main.js"}',
    );
    await writeFile(
      join(folder, 'node_modules/my-adapter/main.js'),
      'module.exports = { name: "packaged", write() {} };',
    );
    expect((await loadModuleAdapter({ module: 'my-adapter', folder }, clock)).name).toBe('packaged');
  });
});

describe('a module that is no adapter is refused with what is wrong and what would be right', () => {
  const wrong: Array<[what: string, source: string, code: string, says: RegExp]> = [
    [
      'no default export',
      'export const write = () => {};',
      'adapter-no-default',
      /no default export.*exports by default/s,
    ],
    ['a default export of another kind', 'export default 7;', 'adapter-no-default', /of type number/],
    ['an object without write', 'export default { log() {} };', 'adapter-no-write', /no function `write`/],
    [
      'a function that returns nothing',
      'export default () => {};',
      'adapter-no-write',
      /returned a value of type undefined/,
    ],
    ['a function that returns null', 'export default () => null;', 'adapter-no-write', /returned null/],
    [
      'a function that throws',
      'export default () => { throw new Error("no url"); };',
      'adapter-module-failed',
      /no url.*monitoring\.adapters/s,
    ],
    ['a syntax error', 'export default {', 'adapter-module-failed', /cannot be loaded/],
    [
      'an import that is not there',
      'import "./gone.mjs"; export default {};',
      'adapter-module-failed',
      /gone\.mjs/,
    ],
  ];

  it.each(wrong)('%s', async (what, source, code, says) => {
    const name = `${what.replaceAll(' ', '-')}.mjs`;
    const error: unknown = await load(name, source).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code, message: expect.stringMatching(says) });
    expect((error as Error).message).toContain(join(folder, name));
  });

  it('a file that is not there', async () => {
    await expect(loadModuleAdapter({ module: './gone.mjs', folder }, clock)).rejects.toMatchObject({
      code: 'adapter-module-missing',
      message: expect.stringMatching(/gone\.mjs.*Give the path/s),
    });
  });

  it('a function that never answers', async () => {
    const loading = load(
      'hangs.mjs',
      'globalThis.hauberkHangs = true; export default () => new Promise(() => {});',
    );
    const refused = expect(loading).rejects.toMatchObject({
      code: 'adapter-module-failed',
      message: expect.stringContaining('did not answer within 10 s'),
    });
    while (seen('hauberkHangs') === undefined || clock.pending === 0) await turns(1);
    clock.advance(10_000);
    await refused;
  });
});

describe('the adapters of a configuration', () => {
  it('are made in order', async () => {
    await writeFile(join(folder, 'listed.mjs'), 'export default () => ({ name: "listed", write() {} });');
    const path = join(folder, 'listed.jsonl');
    const adapters = await openAdapters(
      [
        { type: 'stdout' },
        { type: 'file', path },
        { type: 'module', module: join(folder, 'listed.mjs'), options: {} },
      ],
      { clock, stdout: new PassThrough(), folder },
    );
    expect(adapters.map(({ name }) => name)).toEqual(['stdout', `file:${path}`, 'listed']);
    await Promise.all(adapters.map(async (adapter) => adapter.close?.()));
  });

  it('are closed again when one of them cannot be made', async () => {
    await writeFile(
      join(folder, 'closing.mjs'),
      'export default () => ({ write() {}, close() { globalThis.hauberkClosed = true; } });',
    );
    const opening = openAdapters(
      [
        { type: 'module', module: './closing.mjs', options: {} },
        { type: 'file', path: join(folder, 'no/such/folder.jsonl') },
      ],
      { clock, stdout: new PassThrough(), folder },
    );
    await expect(opening).rejects.toMatchObject({ code: 'file-unusable' });
    expect(seen('hauberkClosed')).toBe(true);
  });
});
