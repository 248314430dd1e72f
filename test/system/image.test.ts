import { execFileSync } from 'node:child_process';
import { chown, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { type Container, Image } from '../harness/container.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { HealthClient } from '../harness/health-client.ts';
import { peakOf } from '../harness/memory.ts';
import { atEnd, type ConfigFile, merge, World } from '../harness/sidecars.ts';

/*
 * The images, assembled without an engine by the instructions of deploy/Dockerfile, and run as an engine would run them: the first process
 * of a container, on Node 24, below a read-only root, as the image's user.
 */

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MIB = 1024 * 1024;
/** The user that the injector gives a sidecar, and the image's own. */
const SIDECAR = 15008;
const NONROOT = 65532;

let image: Image;
let capture: Image;
let world: World;
beforeAll(async () => {
  [image, world] = await Promise.all([Image.build('hauberk'), World.make()]);
  capture = await Image.build('capture', image);
});

/** A folder as a pod has it at /run: an identity, readable by its user only. */
async function volume(
  name: string,
  user: number,
  files: Readonly<Record<string, string>> = {},
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-volume-'));
  atEnd(() => rm(folder, { recursive: true }));
  const { svid, key, bundle } = await world.identityFiles(name);
  const paths = { svid, key, bundle };
  for (const [what, path] of Object.entries(paths)) {
    await writeFile(join(folder, what), await readFile(path), { mode: 0o400 });
  }
  for (const [what, text] of Object.entries(files))
    await writeFile(join(folder, what), text, { mode: 0o400 });
  for (const file of await readdir(folder)) await chown(join(folder, file), user, user);
  await chown(folder, user, user);
  return folder;
}

const configuration = (config: ConfigFile = {}): string =>
  stringify(
    merge(
      {
        trustDomain: world.trust.trustDomain,
        identity: { svid: '/run/svid', key: '/run/key', bundle: '/run/bundle' },
        egress: { listen: '127.0.0.1:0' },
        ingress: { listen: '127.0.0.1:0' },
        probes: { http: '127.0.0.1:0', grpc: '127.0.0.1:0' },
        handshake: { maxEventLoopLag: '10s' },
      },
      config,
    ),
  );

async function sidecar(name: string, config: ConfigFile, files = {}): Promise<Container> {
  return image.start({
    args: ['run'],
    user: `${SIDECAR}:${SIDECAR}`,
    volume: await volume(name, SIDECAR, files),
    env: { HAUBERK_CONFIG: configuration(config) },
  });
}

/** Everything in a root file system, by its path there. */
async function tree(root: string): Promise<string[]> {
  const found = await readdir(root, { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
}

describe('the image', () => {
  it('has Node, its libraries, the program, and nothing that a shell could be', async () => {
    const paths = await tree(image.root);
    const known = paths.filter(
      (path) => !/^\/usr\/lib(64)?\/|^\/hauberk\/(proto\/.*\.proto|[\w.-]+-[0-9A-Z]{8}\.mjs)$/.test(path),
    );
    expect(known.sort()).toEqual([
      '/bin',
      '/etc/group',
      '/etc/nsswitch.conf',
      '/etc/passwd',
      '/etc/ssl/certs/ca-certificates.crt',
      '/hauberk/LICENSE',
      '/hauberk/THIRD-PARTY-LICENSES',
      '/hauberk/bin/hauberk',
      '/hauberk/hauberk.mjs',
      '/hauberk/package.json',
      '/hauberk/sbom.cdx.json',
      '/lib',
      '/lib64',
      '/nodejs/bin/node',
      '/sbin',
    ]);
    const libraries = paths.filter((path) => path.startsWith('/usr/'));
    expect(libraries.filter((path) => !/\/(lib|ld-)[^/]*\.so[.0-9]*$/.test(path))).toEqual([]);
    expect((await image.run({ entrypoint: ['/bin/sh'], args: ['-c', 'true'] })).stderr).toMatch(
      /No such file/,
    );
    const { all, node, hauberk } = image.config.sizes;
    console.log(`image: ${mib(all)} MiB, of which Node is ${mib(node)} and Hauberk ${mib(hauberk)}`);
    expect(hauberk).toBeLessThan(4 * MIB);
  });

  it('leaves its user nothing to write to', async () => {
    const theirs: string[] = [];
    for (const path of ['/', ...(await readdir(image.root, { recursive: true }))]) {
      const { mode, uid } = await stat(join(image.root, path)).catch(() => ({ mode: 0, uid: 0 }));
      if (uid !== 0 || (mode & 0o022) !== 0) theirs.push(path);
    }
    // As in any image, and below a read-only root no more than the rest.
    expect(theirs).toEqual(['tmp']);
    const write =
      "try { fs.writeFileSync('/tmp/x', '') } catch (e) { console.log(e.code, process.getuid(), process.pid) }";
    const { stdout } = await image.run({ entrypoint: ['/nodejs/bin/node'], args: ['-e', write] });
    expect(stdout).toBe(`EROFS ${NONROOT} 1\n`);
  });

  it('says what it is', async () => {
    const { version, license } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
    expect(image.config).toMatchObject({
      user: `${NONROOT}:${NONROOT}`,
      labels: {
        'org.opencontainers.image.title': 'hauberk',
        'org.opencontainers.image.version': version,
        'org.opencontainers.image.licenses': license,
      },
    });
    expect((await image.run({ args: ['--version'] })).stdout).toBe(`${version}\n`);
    expect((await image.run({ entrypoint: ['hauberk'], args: ['--version'] })).stdout).toBe(`${version}\n`);
    expect((await image.run()).stdout).toMatch(/^Usage: hauberk /);
  });

  it('has a bill of just the packages that are in the bundle', async () => {
    const bill = JSON.parse(await readFile(join(image.root, 'hauberk/sbom.cdx.json'), 'utf8'));
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1 });
    expect(bill.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(bill.metadata.component).toMatchObject({ type: 'application', name: 'hauberk' });
    const components: Array<Record<string, never>> = bill.components;
    const refs = components.map((component) => component['bom-ref'] as string);
    for (const name of [
      '@grpc/grpc-js',
      '@peculiar/x509',
      'ioredis',
      'pino',
      'prom-client',
      'protobufjs',
      'yaml',
    ]) {
      expect(refs.filter((ref) => ref.startsWith(`${name}@`))).toHaveLength(1);
    }
    expect(refs.filter((ref) => /^(esbuild|vitest|typescript|@types|@biomejs)/.test(ref))).toEqual([]);
    expect(new Set(refs).size).toBe(refs.length);
    for (const component of components) {
      const { purl, hashes, licenses } = component as {
        purl?: string;
        hashes?: Array<Record<string, string>>;
        licenses?: [];
      };
      expect(purl).toMatch(/^pkg:npm\/\S+@[0-9]+\./);
      expect(hashes?.[0]).toMatchObject({
        alg: 'SHA-512',
        content: expect.stringMatching(/^[0-9a-f]{128}$/),
      });
      expect(licenses).toHaveLength(1);
    }
    const known = new Set([...refs, bill.metadata.component['bom-ref']]);
    const depended = (bill.dependencies as Array<{ ref: string; dependsOn: string[] }>).flatMap((it) => [
      it.ref,
      ...it.dependsOn,
    ]);
    expect(depended.filter((ref) => !known.has(ref))).toEqual([]);
    // The bundle was made twice, for two images.
    expect(await readFile(join(capture.root, 'hauberk/sbom.cdx.json'), 'utf8')).toBe(
      await readFile(join(image.root, 'hauberk/sbom.cdx.json'), 'utf8'),
    );
    const licences = await readFile(join(image.root, 'hauberk/THIRD-PARTY-LICENSES'), 'utf8');
    expect([...licences.matchAll(/^== (.+)$/gm)].map(([, id]) => id).sort()).toEqual(refs.sort());
  });

  it('the second image says which packages its iptables is of', async () => {
    const bill = JSON.parse(await readFile(join(capture.root, 'hauberk/sbom-iptables.cdx.json'), 'utf8'));
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6' });
    const libraries = (await readdir(join(capture.root, 'usr/lib'), { recursive: true }))
      .map((path) => /(?:^|\/)(lib\w+)\.so\.(\d+)$/.exec(path))
      .filter((found) => found !== null)
      // Debian names a package of a library so.
      .map(([, name, version]) => `${name}${version}`);
    const own = libraries.filter((name) => /^lib(mnl|nftnl|xtables|ip[46]tc)/.test(name));
    expect(own.length).toBeGreaterThan(2);
    const names = bill.components.map(({ name }: { name: string }) => name);
    expect(names).toEqual(['iptables', ...own.sort()]);
    for (const { name, version, purl } of bill.components) {
      const status = await readFile(join(capture.root, 'var/lib/dpkg/status.d', name), 'utf8');
      expect(status).toContain(`Package: ${name}\n`);
      expect(status).toContain(`\nVersion: ${version}\n`);
      expect(decodeURIComponent(purl)).toBe(`pkg:deb/debian/${name}@${version}`);
      expect((await stat(join(capture.root, 'usr/share/doc', name, 'copyright'))).size).toBeGreaterThan(100);
    }
  });

  it('checks a configuration', async () => {
    const folder = await volume('web', SIDECAR, {
      'sidecar.yaml': configuration(),
      'wrong.yaml': 'trustDomian: x\n',
    });
    const check = (file: string) =>
      image.run({ args: ['check-config', file], user: `${SIDECAR}:${SIDECAR}`, volume: folder });
    expect(await check('/run/sidecar.yaml')).toMatchObject({ code: 0, stderr: '' });
    expect(await check('/run/wrong.yaml')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('trustDomain'),
    });
  });
});

it('a controller of the image says what it misses outside of a cluster', async () => {
  const folder = await volume('web', NONROOT, { 'controller.yaml': 'trustDomain: cluster.local\n' });
  const { code, stderr } = await image.run({
    args: ['controller', '-c', '/run/controller.yaml'],
    volume: folder,
  });
  expect(code).toBe(3);
  expect(stderr).toMatch(
    /^hauberk: \/run\/controller\.yaml: kubernetes\.server is missing, and this is no pod of a cluster /,
  );
});

describe('a sidecar of the image', () => {
  it('serves calls, probes and its admin API, and stays within its memory', async () => {
    const app = await world.app();
    const token = 'x'.repeat(43);
    const greeter = await sidecar('greeter', {
      ingress: {
        apps: [{ service: 'greeter.shop', address: app.address }],
        allow: [{ peer: world.spiffeId('*'), methods: ['/*/*'] }],
      },
      limits: [{ scope: 'peer', maxRequests: 1000, window: '60s' }],
      crypto: { provider: 'noble' },
    });
    const { ingress } = await greeter.ready();
    const begun = performance.now();
    const web = await sidecar(
      'web',
      {
        egress: {
          routes: [{ service: 'greeter.shop', endpoints: ingress, peer: world.spiffeId('greeter') }],
        },
        admin: { listen: '127.0.0.1:0', token: '/run/token' },
      },
      { token },
    );
    const ready = await web.ready();
    console.log(`ready after ${Math.round(performance.now() - begun)} ms`);
    expect(ready.pid).toBe(1);

    const get = async (path: string) => fetch(`http://${ready.probes.http[0]}${path}`);
    for (const path of ['/startupz', '/livez', '/readyz', '/metrics'])
      expect((await get(path)).status).toBe(200);
    const idle = await peakOf({ pid: await web.pid() });
    console.log(`idle: ${mib(idle)} MiB`);
    expect(idle).toBeLessThan(80 * MIB);

    const client = world.client(ready.egress[0] as string, { authority: 'greeter.shop' });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    expect(answer.code, answer.details).toBe(0);

    const health = new HealthClient(ready.probes.grpc[0] as string);
    expect(await health.check('')).toBe('SERVING');
    health.close();

    const status = await image.run({
      args: ['status', '--address', ready.admin[0] as string, '--token', '/run/token', '-o', 'json'],
      user: `${SIDECAR}:${SIDECAR}`,
      volume: await volume('web', SIDECAR, { token }),
    });
    expect(status.stderr).toBe('');
    expect(JSON.parse(status.stdout)).toMatchObject({ spiffeId: world.spiffeId('web') });

    for (const each of [web, greeter]) await each.signal('SIGTERM');
    expect((await web.outcome).code).toBe(0);
    expect((await greeter.outcome).code).toBe(0);
  });

  it('as the first process, and the only one, ends in good order on SIGTERM', async () => {
    const app = await world.app();
    const web = await sidecar('web', {
      ingress: { apps: [{ service: 'web.shop', address: app.address }] },
      // It has the client that users of the package bring themselves; nobody is there.
      limitStore: { type: 'redis', url: 'redis://127.0.0.1:1' },
      limits: [{ scope: 'peer', maxRequests: 1000, window: '60s' }],
    });
    await web.ready();
    // Nothing runs beside it, and nothing that has ended is left.
    const inside = ['-t', `${await web.pid()}`, '-m', 'ls', join(image.root, 'proc')];
    const processes = execFileSync('nsenter', inside, { encoding: 'utf8' }).match(/^[0-9]+$/gm);
    expect(processes).toEqual(['1']);
    await expect.poll(() => web.log).toContain('connect ECONNREFUSED 127.0.0.1:1');
    await web.signal('SIGTERM');
    expect((await web.outcome).code).toBe(0);
    expect((await web.outcome).stderr).toContain('"message":"stopped"');
  });

  it('as the first process is ended by a signal while it loads, and not only when it is ready', async () => {
    const web = await sidecar('web', {});
    await web.pid();
    // The first ones come before Node runs anything of ours: then the kernel drops them.
    let over = false;
    const ended = web.outcome.finally(() => {
      over = true;
    });
    while (!over) {
      await web.signal('SIGTERM').catch(() => undefined);
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 10))]);
    }
    // The kernel ends it instead where a signal comes while Node, which starts its threads, has it blocked.
    const { code, signal } = await ended;
    expect([143, 'SIGTERM']).toContain(code ?? signal);
    expect(web.stdout).toEqual([]);
  });
});

describe('the image for transparent mode', () => {
  it.each(['nft', 'legacy'])(
    'captures by %s with two capabilities, and is of no use to other users',
    async (backend) => {
      const args = [
        'capture',
        'install',
        '--backend',
        backend,
        '--redirect',
        '50051=15101',
        '--inbound-ports',
        '50051',
      ];
      const confined = { args, ownNetwork: true, capabilities: ['net_admin', 'net_raw'] };
      expect(capture.config).toMatchObject({
        user: '0:0',
        labels: { 'org.opencontainers.image.title': 'hauberk-capture' },
      });
      expect(await capture.run(confined)).toMatchObject({ code: 0, stderr: '' });
      const { code, stderr } = await capture.run({ ...confined, user: '1000:1000' });
      expect(code).toBe(10);
      expect(stderr).toContain('NET_ADMIN and NET_RAW');
    },
  );

  it('the other image says where the programs are', async () => {
    const { code, stderr } = await image.run({
      args: ['capture', 'install', '--redirect', '50051=15101'],
      ownNetwork: true,
      user: '0:0',
    });
    expect([code, stderr]).toEqual([
      10,
      'hauberk: there is no iptables here: use the image hauberk-capture, or install the package iptables\n',
    ]);
  });
});

describe('deploy/Dockerfile', () => {
  it('ends in stages that only copy, as a numeric user, without a command line of a shell', async () => {
    const text = await readFile(join(ROOT, 'deploy/Dockerfile'), 'utf8');
    const stages = text.split(/^FROM /m).slice(1);
    expect(stages.map((stage) => stage.split('\n')[0])).toEqual([
      `\${BUILD_BASE} AS build`,
      `\${IPTABLES_BASE} AS iptables`,
      `\${IMAGE_BASE} AS hauberk`,
      'hauberk AS capture',
    ]);
    const bases = text.slice(0, text.indexOf('\nFROM ')).match(/^ARG .*$/gm);
    expect(bases).toEqual([
      'ARG BUILD_BASE=node:24-trixie-slim',
      'ARG IPTABLES_BASE=debian:trixie-slim',
      'ARG IMAGE_BASE=gcr.io/distroless/nodejs24-debian13:nonroot',
    ]);
    const words = stages.slice(2).map((stage) => [...stage.matchAll(/^([A-Z]+) /gm)].map(([, word]) => word));
    expect(
      words.flat().filter((word) => /^(RUN|ADD|SHELL|VOLUME|HEALTHCHECK)$/.test(word as string)),
    ).toEqual([]);
    for (const stage of stages.slice(2)) {
      expect(stage.match(/^USER .*$/gm)?.at(-1)).toMatch(/^USER \d+:\d+$/);
      for (const [, json] of stage.matchAll(/^(?:ENTRYPOINT|CMD) (.*)$/gm))
        expect(() => JSON.parse(json as string)).not.toThrow();
    }
    for (const [, tag] of text.matchAll(/-t ghcr\.io\/hauberk-mesh\/[a-z-]+:(\S+)/g)) {
      expect(tag).toBe(image.config.labels['org.opencontainers.image.version']);
    }
  });

  it('is given what its build needs, and not more', async () => {
    const ignore = (await readFile(join(ROOT, '.dockerignore'), 'utf8')).trim().split('\n');
    expect(ignore[0]).toBe('*');
    const given = ignore.slice(1).map((line) => line.slice(1));
    const folder = await mkdtemp(join(tmpdir(), 'hauberk-context-'));
    atEnd(() => rm(folder, { recursive: true }));
    for (const path of given) {
      await mkdir(join(folder, path, '..'), { recursive: true });
      execFileSync('cp', ['-r', join(ROOT, path), join(folder, path)]);
    }
    execFileSync('ln', ['-s', join(ROOT, 'node_modules'), join(folder, 'node_modules')]);
    execFileSync(process.execPath, ['scripts/bundle.mjs'], { cwd: folder });
    // Chunks have names by their content.
    const of = async (bundle: string) => [
      await readdir(bundle, { recursive: true }),
      await readFile(join(bundle, 'hauberk.mjs'), 'utf8'),
    ];
    expect(await of(join(folder, 'dist/bundle'))).toEqual(await of(join(image.root, 'hauberk')));
    // It issues identities, runs sidecars, and calls through them.
    const demo = execFileSync(process.execPath, ['dist/bundle/hauberk.mjs', 'demo'], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(demo).toContain('Everything went as it should.');
  });
});

const mib = (octets: number): string => (octets / MIB).toFixed(1);
