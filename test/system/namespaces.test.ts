import { beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../harness/container.ts';
import { type Host, Network } from '../harness/netns.ts';
import { Cluster } from '../harness/pod.ts';
import { type ConfigFile, World } from '../harness/sidecars.ts';

/*
 * Pods as a cluster has them: network namespaces with addresses and DNS of their own, in which containers of our images run beside plain
 * grpc-js apps that know nothing of Hauberk; their traffic is redirected by the real iptables.
 */

const OK = 0;
const UNAVAILABLE = 14;

let cluster: Cluster;
beforeAll(async () => {
  const image = await Image.build('hauberk');
  cluster = await Cluster.make(await World.make(), image, await Image.build('capture', image));
});

describe.each([
  {
    family: 'IPv4',
    of: (host: Host) => host.v4,
    at: (host: Host) => host.v4,
    any: '0.0.0.0',
    backend: 'nft',
  },
  {
    family: 'IPv6',
    of: (host: Host) => host.v6,
    at: (host: Host) => `[${host.v6}]`,
    any: '[::]',
    backend: 'legacy',
  },
])('over $family, redirected by iptables ($backend)', ({ of, at, any, backend }) => {
  let network: Network;
  let [web, greeter, outsider, probe]: Host[] = [];

  const webConfig = (more: ConfigFile = {}): ConfigFile => ({
    egress: {
      routes: [
        {
          service: 'greeter.shop',
          endpoints: ['greeter.shop:15008'],
          peer: cluster.world.spiffeId('greeter'),
          ...more,
        },
      ],
      redirects: [{ port: 50051, listen: 'localhost:15101' }],
    },
  });
  /** A call from a host in plaintext, straight to the app: how it ends. */
  const direct = async (host: Host, port: number): Promise<number | undefined> => {
    const app = cluster.client(host, `${at(greeter as Host)}:${port}`, 'direct', { ms: 50 });
    const { code } = await app.nextCall();
    await app.stop();
    return code;
  };

  beforeAll(async () => {
    network = await Network.make();
    const hosts = ['control', 'web', 'greeter', 'outsider', 'probe'].map((name, i) =>
      network.host(name, i + 2),
    );
    const control = await (hosts[0] as Promise<Host>);
    [web, greeter, outsider, probe] = await Promise.all(hosts.slice(1));
    await cluster.names({ 'greeter.shop': [of(greeter as Host)] });
    await cluster.dns(control);
    await cluster.server(greeter as Host, 'greeter', `${any}:50051`, `${any}:50052`);
  });

  it('calls of a plain app cross the wire in plaintext before, and encrypted after, by a session', async () => {
    const tap = await network.wiretap();
    const before = cluster.client(web as Host, 'greeter.shop:50051', 'in-the-open');
    expect((await before.nextCall()).code).toBe(OK);
    await before.stop();
    await expect.poll(() => tap.octets.includes('in-the-open')).toBe(true);

    const skips = ['--skip-ports', '50052', '--skip-subnets', of(probe as Host)];
    const inbound = ['install', '--backend', backend, '--inbound-ports', '50051,50052', ...skips];
    expect(await cluster.captured(greeter as Host, ...inbound)).toMatchObject({ code: 0, stderr: '' });
    const outbound = ['install', '--backend', backend, '--redirect', '50051=15101', '--skip-users', '2000'];
    expect(await cluster.captured(web as Host, ...outbound)).toMatchObject({ code: 0, stderr: '' });
    await cluster.sidecar(greeter as Host, 'greeter', {
      ingress: {
        apps: [{ service: 'greeter.shop', address: '127.0.0.1:50051' }],
        allow: [{ peer: cluster.world.spiffeId('*'), methods: ['/*/*'] }],
      },
    });
    await cluster.sidecar(web as Host, 'web', webConfig());

    const after = cluster.client(web as Host, 'greeter.shop:50051', 'under-mail');
    expect(await after.nextCall()).toMatchObject({ code: OK, by: 'greeter' });
    await after.stop();
    await expect.poll(() => tap.octets.includes('HBK1')).toBe(true);
    const heard = await tap.stop();
    expect(heard.includes('under-mail')).toBe(false);
  });

  it('nobody reaches a captured port of an app without the mesh, also not who is skipped', async () => {
    expect(await direct(outsider as Host, 50051)).toBe(UNAVAILABLE);
    expect(await direct(outsider as Host, 50052)).toBe(UNAVAILABLE);
    expect(await direct(probe as Host, 50051)).toBe(UNAVAILABLE);
  });

  it('users who are skipped call for themselves, without the mesh', async () => {
    const skipped = cluster.client(web as Host, 'greeter.shop:50051', 'skipped', { ms: 50, user: 2000 });
    expect(await skipped.nextCall()).toMatchObject({ code: UNAVAILABLE });
    await skipped.stop();
  });

  it('explicit mode works beside it, without a privilege', async () => {
    await cluster.sidecar(outsider as Host, 'web', webConfig({ listen: '127.0.0.1:50061' }));
    const app = cluster.client(outsider as Host, '127.0.0.1:50061', 'explicit');
    expect(await app.nextCall()).toMatchObject({ code: OK, by: 'greeter' });
    await app.stop();
  });

  it('is installed once however often, and removed without a trace', async () => {
    const rules = async () => {
      const family = any === '0.0.0.0' ? 'iptables' : 'ip6tables';
      const saved = await (greeter as Host).run(`${family}-${backend}-save`);
      return saved.split('\n').filter((line) => line.startsWith('-A'));
    };
    const before = await rules();
    expect(before.filter((rule) => rule.includes('-j HAUBERK_INPUT'))).toHaveLength(1);
    const again = await cluster.captured(greeter as Host, 'install', '--inbound-ports', '50051,50052');
    expect(again.stdout).toContain(`captured already, by iptables (${backend}), IPv4 and IPv6`);
    const less = await cluster.captured(greeter as Host, 'install', '--inbound-ports', '50051');
    expect(less.stdout).toContain(`captured, by iptables (${backend}), IPv4 and IPv6`);
    expect(await direct(probe as Host, 50051)).toBe(UNAVAILABLE);
    expect(await direct(probe as Host, 50052)).toBe(OK);
    expect((await rules()).filter((rule) => rule.includes('-j HAUBERK_INPUT'))).toHaveLength(1);
    expect((await cluster.captured(greeter as Host, 'show')).stdout).toContain(
      '-t filter -A INPUT -p tcp -j HAUBERK_INPUT',
    );
    expect((await cluster.captured(greeter as Host, 'remove')).code).toBe(0);
    expect(await rules()).toEqual([]);
    expect(await direct(outsider as Host, 50051)).toBe(OK);
  });
});
