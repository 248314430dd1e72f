import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAJORS, type NodeMajor, PackedProject } from '../harness/packed.ts';

/*
 * A service and its caller, written as the documentation says, with the packed package in an empty project: each a process of its own,
 * as an ES module, as CommonJS and compiled from strict TypeScript, on each version of Node.
 */

let project: PackedProject;
beforeAll(async () => {
  project = await PackedProject.make();
  const hauberk = 'node_modules/hauberk/dist/cli/main.js';
  await project.run(20, hauberk, 'init', '--trust-domain', 'shop.example');
  for (const name of ['web', 'greeter', 'other']) await project.run(20, hauberk, 'issue', name);
});
const children: Array<ChildProcessByStdio<null, Readable, Readable>> = [];
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await project[Symbol.asyncDispose]();
});

const SERVER = `
  const server = new SecureMeshServer('greeter');
  server.handle('greet', async ({ name }: { name: string }, { session }) => ({ text: \`Hello, \${name}\`, peer: session.peer }));
  server.handleServerStream('count', async function* (to: number) { for (let n = 1; n <= to; n++) yield n; });
  void server.start().then((port) => console.log(port));
  process.once('SIGTERM', () => void server.cleanup().then(() => console.log('ended')));
`;
const CLIENT = `
  async function main() {
    const mesh = new SecureMesh({ serviceId: 'web', services: { greeter: \`127.0.0.1:\${process.argv[2]}\` } });
    await mesh.start();
    const greeter = await mesh.connect('greeter');
    console.log(JSON.stringify(await greeter.call('greet', { name: 'World' })));
    const numbers: unknown[] = [];
    for await (const n of greeter.serverStream('count', 3)) numbers.push(n);
    console.log(JSON.stringify([numbers, mesh.getStats().sessions.activeSessions]));
    await mesh.cleanup();
  }
  void main();
`;
const SAYS = ['{"text":"Hello, World","peer":"spiffe://shop.example/ns/default/sa/web"}', '[[1,2,3],1]'];

/** A program without its types, in either kind of module. */
function untyped(name: string, source: string, kind: 'mjs' | 'cjs'): string {
  const text = source
    .replace('({ name }: { name: string }, { session })', '({ name }, { session })')
    .replace('(to: number)', '(to)')
    .replace('numbers: unknown[]', 'numbers');
  return kind === 'mjs'
    ? `import { ${name} } from 'hauberk';\n${text}`
    : `const { ${name} } = require('hauberk');\n${text}`;
}

interface Service {
  readonly port: string;
  /** Ends it as a supervisor would; what it has said. */
  end(): Promise<{ code: number | null; stdout: string[]; stderr: string }>;
}

async function serve(major: NodeMajor, program: string): Promise<Service> {
  const child = spawn(await project.node(major), [program], {
    cwd: project.folder,
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const stdout: string[] = [];
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const port = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      stdout.push(line);
      resolve(line);
    });
    void ended.then((code) =>
      reject(new Error(`the service ended with ${code} before it listened: ${stderr}`)),
    );
  });
  return {
    port,
    end: async () => {
      child.kill('SIGTERM');
      return { code: await ended, stdout, stderr };
    },
  };
}

/** Calls a service and ends it; neither may say a word that is not its own. */
async function expectTalk(service: Service, major: NodeMajor, client: string): Promise<void> {
  const { code, stdout, stderr } = await project.run(major, client, service.port);
  expect([code, stderr, stdout.trimEnd().split('\n')]).toEqual([0, '', SAYS]);
  expect(await service.end()).toEqual({ code: 0, stdout: [service.port, 'ended'], stderr: '' });
}

describe('a service and its caller', () => {
  beforeAll(async () => {
    for (const kind of ['mjs', 'cjs'] as const) {
      await project.write(`server.${kind}`, untyped('SecureMeshServer', SERVER, kind));
      await project.write(`client.${kind}`, untyped('SecureMesh', CLIENT, kind));
    }
  });

  it.each(MAJORS.flatMap((served) => MAJORS.map((calls) => ({ served, calls }))))(
    'an ES module on Node $served serves CommonJS on Node $calls',
    async ({ served, calls }) => {
      await expectTalk(await serve(served, 'server.mjs'), calls, 'client.cjs');
    },
  );

  it.each(MAJORS)('CommonJS on Node %d serves an ES module', async (major) => {
    await expectTalk(await serve(major, 'server.cjs'), major, 'client.mjs');
  });

  it('in strict TypeScript they compile, in either kind of module, and talk', async () => {
    for (const kind of ['mts', 'cts']) {
      await project.write(
        `src/server.${kind}`,
        `import { SecureMeshServer } from 'hauberk/mesh';\n${SERVER}`,
      );
      await project.write(`src/client.${kind}`, `import { SecureMesh } from 'hauberk';\n${CLIENT}`);
    }
    const sources = ['mts', 'cts'].flatMap((kind) => [`src/server.${kind}`, `src/client.${kind}`]);
    const strict = { strict: true, exactOptionalPropertyTypes: true, skipLibCheck: true, types: 'node' };
    const said = await project.compile(sources, {
      ...strict,
      module: 'nodenext',
      target: 'es2022',
      outDir: 'out',
    });
    expect(said).toBe('');
    await expectTalk(await serve(20, 'out/server.mjs'), 20, 'out/client.cjs');
    await expectTalk(await serve(20, 'out/server.cjs'), 20, 'out/client.mjs');
  });
});

describe('the likeliest mistakes say what to do', () => {
  /** What a program says of what it catches: `name`, `code`, `reason` and message. */
  async function caught(source: string, ...args: string[]): Promise<string> {
    const program = `
      import { CallError, MeshError, SecureMesh, SecureMeshServer } from 'hauberk';
      import { createServer } from 'node:net';
      const say = (error) => console.log(
        error instanceof MeshError || error instanceof CallError, error.code, error.reason ?? '', error.message,
      );
      const ends = [];
      const meshOf = async (options) => {
        const mesh = await new SecureMesh({ serviceId: 'web', ...options }).start();
        ends.push(mesh);
        return mesh;
      };
      const serverOf = async (options) => {
        const server = new SecureMeshServer({ serviceId: 'greeter', host: '127.0.0.1', ...options });
        server.handle('greet', async () => 'hello');
        server.handleBidiStream('talk', async function* (messages) { for await (const message of messages) yield message; });
        const port = await server.start();
        ends.push(server);
        return { greeter: \`127.0.0.1:\${port}\` };
      };
      try { ${source} } catch (error) { say(error); }
      for (const it of ends.reverse()) await it.cleanup(0);
    `;
    await project.write('mistake.mjs', program);
    const { code, stderr, stdout } = await project.run(20, 'mistake.mjs', ...args);
    expect([code, stderr]).toEqual([0, '']);
    return stdout.trimEnd();
  }

  it.each<[what: string, source: string, says: RegExp[]]>([
    [
      'a wrong folder of keys',
      `await meshOf({ keys: './key' });`,
      [/^true bad-keys /, /\bkey\b/, /hauberk (init|issue)/],
    ],
    [
      'a service that has no identity',
      `await meshOf({ serviceId: 'orders' });`,
      [/^true bad-keys /, /orders/, /hauberk issue orders/],
    ],
    [
      'a port that is taken',
      `const other = createServer().listen(0, '127.0.0.1');
       await new Promise((resolve) => other.once('listening', resolve));
       const { port } = other.address();
       try { await serverOf({ port }); } finally { other.close(); }`,
      [/^true port-taken /, /127\.0\.0\.1:\d+/, /another|other|free/],
    ],
    [
      'a service that is not known',
      `const mesh = await meshOf({ services: { greeter: '127.0.0.1:1' } }); await mesh.connect('greter');`,
      [/^true unknown-service /, /"greter"/, /did you mean greeter\?/],
    ],
    [
      'a peer that is not allowed',
      `const services = await serverOf({ allow: ['other'] });
       await (await (await meshOf({ services })).connect('greeter')).call('greet', {});`,
      [/^true 7 /, /allow/, /spiffe:\/\/shop\.example\/ns\/default\/sa\/web/],
    ],
    [
      'a session that has expired',
      `const services = await serverOf({ security: { absoluteLifetime: '10s' } });
       const client = await (await meshOf({ services })).connect('greeter');
       async function* never() { yield 1; await new Promise(() => {}); }
       for await (const message of client.bidiStream('talk', never()));`,
      [/^true 14 /, /session/, /again|retry|call/],
    ],
    [
      'a mesh after its cleanup',
      `const mesh = await meshOf({}); await mesh.cleanup(); await mesh.connect('greeter');`,
      [/^true ended /, /cleanup\(\)/, /make a new SecureMesh/],
    ],
    [
      'a client after its mesh was cleaned up',
      `const services = await serverOf({}); const mesh = await meshOf({ services });
       const client = await mesh.connect('greeter');
       await client.call('greet', {}); await mesh.cleanup(); await client.call('greet', {});`,
      [/^true /, /cleanup\(\)|ended/],
    ],
  ])('%s', async (_what, source, says) => {
    const said = await caught(source);
    for (const expected of says) expect(said).toMatch(expected);
  });
});
