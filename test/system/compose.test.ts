// deploy/compose without containers: its set-up, its configurations and its commands, as processes on loopback.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { hauberk, MAIN, spawnHauberk } from '../harness/cli.ts';
import { atEnd } from '../harness/sidecars.ts';

const FOLDER = fileURLToPath(new URL('../../deploy/compose/', import.meta.url));
const VERSION = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  .version as string;

interface Service {
  readonly image: string;
  readonly user: string;
  readonly read_only: boolean;
  readonly cap_drop: string[];
  readonly command?: string[];
  readonly entrypoint?: string[];
  readonly network_mode?: string;
  readonly networks?: { readonly default: { readonly aliases: string[] } };
  readonly volumes?: string[];
  readonly environment?: Record<string, string>;
}

const { services } = parse(readFileSync(join(FOLDER, 'compose.yaml'), 'utf8'), { merge: true }) as {
  services: Record<string, Service>;
};
const at = (name: string): Service => services[name] as Service;
const APPS = ['greeter', 'web'];

const work = mkdtempSync(join(tmpdir(), 'hauberk-compose-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));
const compose = join(work, 'compose');

beforeAll(() => {
  mkdirSync(compose);
  for (const file of readdirSync(FOLDER)) {
    if (file !== 'keys' && file !== '.env') cpSync(join(FOLDER, file), join(compose, file));
  }
});

/** Stands in for docker: runs the program on this machine, with the volume at its place. */
const DOCKER = `#!/bin/sh
while [ "$1" != "$HAUBERK_IMAGE" ]; do
  if [ "$1" = --volume ]; then keys=\${2%:/keys}; fi
  shift
done
shift
for argument; do
  shift
  if [ "$argument" = /keys ]; then argument=$keys; fi
  set -- "$@" "$argument"
done
exec "${process.execPath}" "${MAIN}" "$@"
`;

/** Runs setup as its user does. */
function setUp(): void {
  const bin = join(work, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'docker'), DOCKER, { mode: 0o755 });
  const env = { PATH: `${bin}:${process.env.PATH}`, HAUBERK_IMAGE: 'hauberk' };
  const { status, stderr } = spawnSync(join(compose, 'setup'), { env, encoding: 'utf8' });
  expect(status, stderr).toBe(0);
}

/** What compose mounts into a service: where from, and where to. */
const mountsOf = (name: string): Array<{ source: string; target: string }> =>
  (at(name).volumes ?? []).map((volume) => {
    const [source = '', target = '', mode] = volume.split(':');
    expect(mode, volume).toBe('ro');
    return { source: join(compose, source), target };
  });

/**
 * A folder that shows a service's mounts as its container sees them: a folder is the folder, whatever is in it later; of a
 * file it is the file that had the name when the container started.
 */
function rootOf(name: string): string {
  const root = mkdtempSync(join(work, `${name}-`));
  for (const { source, target } of mountsOf(name)) {
    const path = join(root, target);
    mkdirSync(dirname(path), { recursive: true });
    if (statSync(source).isDirectory()) symlinkSync(source, path);
    else linkSync(source, path);
  }
  return root;
}

it('setup makes an identity for each sidecar, for its owner alone and without the key of the CA, and says as whom to run', () => {
  setUp();
  setUp();
  for (const app of APPS) {
    const keys = mountsOf(`${app}-sidecar`).find(({ target }) => target === '/keys')?.source as string;
    expect(readdirSync(keys).sort()).toEqual(['bundle.pem', 'svid.key', 'svid.pem']);
    expect(statSync(keys).mode & 0o077).toBe(0);
    for (const file of readdirSync(keys)) expect(statSync(join(keys, file)).mode & 0o077, file).toBe(0);
  }
  expect(readFileSync(join(compose, '.env'), 'utf8')).toBe(
    `HAUBERK_USER=${process.getuid?.()}:${process.getgid?.()}\nHAUBERK_IMAGE=hauberk\n`,
  );
});

describe('compose.yaml', () => {
  it.each(Object.entries(services))(
    '%s has no privilege, and the image of this version',
    (_name, service) => {
      expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'] });
      expect(service.image).toBe(`\${HAUBERK_IMAGE:-ghcr.io/hauberk-mesh/hauberk:${VERSION}}`);
      expect(service.user).toMatch(/^\$\{HAUBERK_USER:\?run .\/setup first}$/);
    },
  );

  it.each(APPS)(
    '%s and its sidecar share a network that neither of them owns, so that either may be restarted',
    (app) => {
      const owner = `${app}-network`;
      for (const name of [app, `${app}-sidecar`]) {
        expect(at(name).network_mode).toBe(`service:${owner}`);
        expect(at(name).networks).toBeUndefined();
      }
      expect(at(owner).network_mode).toBeUndefined();
      expect(at(owner).command).toBeUndefined();
    },
  );

  it('has nothing but apps, their sidecars and their networks', () => {
    expect(Object.keys(services).sort()).toEqual(
      APPS.flatMap((app) => [app, `${app}-network`, `${app}-sidecar`]),
    );
    expect(at('greeter-network').networks?.default.aliases).toEqual(['greeter']);
  });

  it('who owns a network runs until it is told to end', async () => {
    const [node, ...args] = at('web-network').entrypoint as string[];
    expect(node).toBe('/nodejs/bin/node');
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    expect(String(await once(child.stdout, 'data'))).toBe('the network is there\n');
    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });

  it.each(APPS)('the sidecar of %s has a right configuration, and all files that it names', async (app) => {
    const { command = [] } = at(`${app}-sidecar`);
    const root = rootOf(`${app}-sidecar`);
    expect(command.slice(0, 2)).toEqual(['run', '-c']);
    const file = join(root, command[2] as string);
    const { identity } = parse(readFileSync(file, 'utf8')) as { identity: Record<string, string> };
    for (const path of Object.values(identity)) expect(statSync(join(root, path)).isFile()).toBe(true);
    const { code, stderr } = await hauberk(['check-config', '--no-identity', file]);
    expect(code, stderr).toBe(0);
  });
});

/** The next of these lines that has `text` in it. */
async function lineWith(lines: AsyncIterator<string>, text: string): Promise<string> {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error(`no line with ${text}`);
    if (value.includes(text)) return value;
  }
}

/** Starts a command of compose.yaml; its lines of standard output, one after the other. */
function start(name: string, changes: Record<string, string>, env: Record<string, string> = {}) {
  const args = (at(name).command ?? []).map((argument) => changes[argument] ?? argument);
  const child = spawnHauberk(args, { env: { HAUBERK_IDENTITY_RELOAD: '500ms', ...env } });
  atEnd(async () => {
    child.kill('SIGTERM');
    await new Promise((resolve) =>
      child.exitCode === null ? child.once('exit', resolve) : resolve(undefined),
    );
  });
  child.stderr.resume();
  return createInterface({ input: child.stdout })[Symbol.asyncIterator]();
}

it('web is told by greeter who it is, through both sidecars, also after a new setup; and past them, that nobody has proved it', async () => {
  const configured = (name: string, ...changes: Array<[from: string, to: string]>): string => {
    const root = rootOf(`${name}-sidecar`);
    let text = readFileSync(join(root, `etc/hauberk/${name}.yaml`), 'utf8').replaceAll(
      '/keys/',
      `${root}/keys/`,
    );
    for (const [from, to] of changes) {
      expect(text).toContain(from);
      text = text.replace(from, to);
    }
    const file = join(work, `${name}.yaml`);
    writeFileSync(file, `${text}probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }\n`);
    return file;
  };
  const portIn = (line: string | undefined, pattern: RegExp): string => {
    const port = pattern.exec(line ?? '')?.[1];
    if (port === undefined) throw new Error(`no port in ${line}`);
    return port;
  };

  const greeter = start('greeter', { '127.0.0.1:50051': '127.0.0.1:0' });
  const app = portIn((await greeter.next()).value, /^serving plaintext gRPC on 127\.0\.0\.1:(\d+)$/);
  const greeterFile = configured(
    'greeter',
    ['":15008"', '127.0.0.1:0'],
    ['127.0.0.1:50051', `127.0.0.1:${app}`],
  );
  // The machine may be busy: this is no test of overload.
  const patient = { HAUBERK_HANDSHAKE_MAX_EVENT_LOOP_LAG: '10s' };
  const ingress = start('greeter-sidecar', { '/etc/hauberk/greeter.yaml': greeterFile }, patient);
  const mesh = portIn((await ingress.next()).value, /"ingress":\["127\.0\.0\.1:(\d+)"/);
  const webFile = configured(
    'web',
    ['localhost:15001', '127.0.0.1:0'],
    ['greeter:15008', `127.0.0.1:${mesh}`],
  );
  const egress = start('web-sidecar', { '/etc/hauberk/web.yaml': webFile });
  const proxy = portIn((await egress.next()).value, /"egress":\["127\.0\.0\.1:(\d+)"/);

  const { grpc_proxy } = at('web').environment as { grpc_proxy: string };
  const web = start('web', {}, { grpc_proxy: grpc_proxy.replace('15001', proxy) });
  const told = /^Hello, web! {2}I am spiffe:\/\/demo\.example\/ns\/demo\/sa\/web, by session [0-9a-f-]{36}$/;
  for (const _call of [1, 2]) expect((await web.next()).value).toMatch(told);

  setUp();
  for (const sidecar of [ingress, egress]) {
    const rotated = await lineWith(sidecar, '"type":"identity.rotated"');
    expect(JSON.parse(rotated)).toMatchObject({ changed: 'svid', cause: 'files' });
  }
  for (const _call of [1, 2, 3]) expect((await web.next()).value).toMatch(told);

  const past = await hauberk(['demo-app', 'client', '--target', `127.0.0.1:${app}`, '--count', '1']);
  expect(past).toMatchObject({
    code: 1,
    stdout: 'Hello, web!  NOT ENCRYPTED: nobody has proved who calls\n',
  });
});
