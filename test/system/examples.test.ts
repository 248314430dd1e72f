import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ExampleProgram, exampleFolder } from '../harness/exampleprogram.ts';

// The programs of examples/, as their READMEs run them, and what happens to them that a README does not show.

describe('greeter', () => {
  it('greets over one session, and both programs end as they should', async () => {
    const folder = await exampleFolder('greeter', ['greeter', 'web']);
    const server = new ExampleProgram(folder, 'server.ts', { PORT: '0' });
    const client = new ExampleProgram(folder, 'client.ts', { GREETER: `127.0.0.1:${await server.port()}` });
    expect(await client.end()).toBe(0);
    expect(client.said[0]).toMatch(
      /^Hello Ada! You are spiffe:\/\/shop\.example\/ns\/default\/sa\/web\. \(session [0-9a-f-]{36}\)$/,
    );
    expect(client.said.at(-1)).toBe('3 calls over 1 session');
    expect(await server.end('SIGTERM')).toBe(0);
    expect([server.stderr, client.stderr]).toEqual(['', '']);
  });
});

describe('chat', () => {
  it('tells everybody what everybody says, under the name of the certificate', async () => {
    const folder = await exampleFolder('chat', ['chat', 'ada', 'grace', 'mallory']);
    const server = new ExampleProgram(folder, 'server.ts', { PORT: '0' });
    const env = { CHAT: `127.0.0.1:${await server.port()}` };
    const ada = new ExampleProgram(folder, 'client.ts', env, ['ada']);
    await ada.line(/^room: ada has come$/);
    const grace = new ExampleProgram(folder, 'client.ts', env, ['grace']);
    await ada.line(/^room: grace has come$/);
    grace.tell('good morning');
    ada.tell('good evening');
    for (const member of [ada, grace]) {
      await member.line(/^grace: good morning$/);
      await member.line(/^ada: good evening$/);
    }

    const mallory = new ExampleProgram(folder, 'client.ts', env, ['mallory']);
    mallory.tell('I am ada');
    expect(await mallory.end()).toBe(1);
    expect(mallory.stderr).toMatch(/^the room is closed to mallory: .*\n$/);

    grace.tell('x'.repeat(1001));
    expect(await grace.end()).toBe(1);
    expect(grace.stderr).toContain('a line has at most 1000 characters');
    await ada.line(/^room: grace has gone$/);
    ada.hangUp();
    expect(await ada.end()).toBe(0);
    expect(ada.said.join('\n')).not.toContain('mallory');
    expect(await server.end('SIGTERM')).toBe(0);
  });
});

describe('data-sync', () => {
  it('copies every change once and in order, though source and copy are killed and certificates renewed', async () => {
    const folder = await exampleFolder('data-sync', ['source', 'copy']);
    const read = async () => JSON.parse(await readFile(join(folder, 'copy.json'), 'utf8'));
    const reached = async (position: number): Promise<void> => {
      for (let left = 600; left > 0; left--) {
        if ((await read().catch(() => ({ position: 0 }))).position >= position) return;
        await pause(50);
      }
      throw new Error(`the copy is at ${(await read()).position}, and not at ${position}`);
    };
    let source = new ExampleProgram(folder, 'source.ts', { PORT: '0', EVERY_MS: '10' });
    const PORT = String(await source.port());
    const env = { SOURCE: `127.0.0.1:${PORT}` };
    let copy = new ExampleProgram(folder, 'copy.ts', env);
    await reached(50);

    await source.end('SIGKILL');
    source = new ExampleProgram(folder, 'source.ts', { PORT, EVERY_MS: '10' });
    await source.port();
    const { position } = await read();
    await reached(position + 50);
    expect(copy.said.some((line) => /^UNAVAILABLE at position \d+: asking again$/.test(line))).toBe(true);

    await copy.end('SIGKILL');
    copy = new ExampleProgram(folder, 'copy.ts', env);
    await copy.line(/^copying from position (\d+)$/);
    await reached((await read()).position + 50);

    expect(await copy.end('SIGTERM')).toBe(0);
    expect(await source.end('SIGTERM')).toBe(0);
    const changes = (await readFile(join(folder, 'changes.jsonl'), 'utf8')).trimEnd().split('\n');
    const table = await read();
    expect(changes.length).toBeGreaterThanOrEqual(table.position);
    const rows: Record<string, string> = {};
    for (const line of changes.slice(0, table.position)) {
      const { key, value } = JSON.parse(line);
      rows[key] = value;
    }
    expect(table.rows).toEqual(rows);
    expect([copy.stderr, source.stderr]).toEqual(['', '']);
  });
});

describe('batch', () => {
  it('does every item once, waits where the limit says so, and ends by itself', async () => {
    const folder = await exampleFolder('batch', ['resizer', 'nightly']);
    const server = new ExampleProgram(folder, 'server.ts', { PORT: '0' });
    const env = { RESIZER: `127.0.0.1:${await server.port()}`, ITEMS: '70' };
    const job = new ExampleProgram(folder, 'job.ts', env);
    expect([await job.end(), job.stderr]).toEqual([0, '']);
    const [, waits] = (await job.line(/^70 of 70 done, waited (\d+) times$/)) as unknown as [string, string];
    // 20 a second: whatever the start of the windows, 70 calls meet three ends of one.
    expect(Number(waits)).toBeGreaterThan(0);
    expect(await server.end('SIGTERM')).toBe(0);
    expect(server.said.filter((line) => line.startsWith('resized '))).toHaveLength(70);
    expect(new Set(server.said).size).toBe(71);
  });

  it('says what it could not do, and exits with 1', async () => {
    const folder = await exampleFolder('batch', ['resizer', 'nightly']);
    const job = new ExampleProgram(folder, 'job.ts', { RESIZER: '127.0.0.1:9', ITEMS: '1', ATTEMPTS: '2' });
    expect(await job.end()).toBe(1);
    expect(job.stderr).toMatch(/^picture-0: UNAVAILABLE: .*127\.0\.0\.1:9/);
    expect(job.said.at(-1)).toBe('0 of 1 done, waited 1 times');
  });
});

describe('gateway', () => {
  it('answers over sessions that follow one another, and no request notices', async () => {
    const folder = await exampleFolder('gateway', ['prices', 'gateway']);
    const backend = new ExampleProgram(folder, 'backend.ts', { PORT: '0' });
    const gateway = new ExampleProgram(folder, 'gateway.ts', {
      PRICES: `127.0.0.1:${await backend.port()}`,
      HTTP_PORT: '0',
      SESSION_TIMEOUT: '5s',
      SESSION_LIFETIME: '10s',
    });
    const url = `http://127.0.0.1:${await gateway.port()}`;
    const get = async (path: string) => {
      const response = await fetch(`${url}${path}`);
      return { status: response.status, body: await response.json() };
    };
    expect(await get('/plum')).toEqual({ status: 404, body: { error: 'nothing is known of "plum"' } });
    expect(await get('/__proto__')).toMatchObject({ status: 404 });
    expect(await get('/%')).toMatchObject({ status: 400 });
    expect(await get('/')).toMatchObject({ status: 404 });

    const sessions = () =>
      new Set(backend.said.flatMap((line) => /in session (.*)$/.exec(line)?.slice(1) ?? []));
    for (let left = 400; sessions().size < 3 && left > 0; left--) {
      expect(await get('/apple')).toEqual({ status: 200, body: { of: 'apple', cents: 30 } });
      await pause(75);
    }
    expect(sessions().size).toBe(3);

    expect(await backend.end('SIGTERM')).toBe(0);
    expect(await get('/apple')).toEqual({ status: 503, body: { error: 'unavailable' } });
    expect(await gateway.end('SIGTERM')).toBe(0);
  });
});
