import { describe, expect, it } from 'vitest';
import { answerTo, dependencies, targetOf } from '../../../src/kube/discovery/resolve.ts';
import { cluster, endpoint, type Objects, pod, service, slice } from './cluster.ts';

interface Question {
  namespace?: string;
  port?: number;
  zone?: string;
}

const ask = (
  objects: Objects,
  authority: string,
  { namespace = 'shop', port = 0, zone = '' }: Question = {},
) => {
  const state = cluster(objects);
  const options = { trustDomain: 'shop.example', clusterDomain: 'cluster.local', zone };
  return answerTo(state, targetOf(state, { authority, namespace, port }, options.clusterDomain), options);
};

/** Endpoints as `address:meshPort>targetPort account`, `!` for one that is not ready. */
const places = (objects: Objects, authority: string, question: Question = {}): string[] =>
  ask(objects, authority, question).endpoints.map(
    ({ address, meshPort, targetPort, spiffeId, ready }) =>
      `${address}:${meshPort}>${targetPort} ${spiffeId.slice('spiffe://shop.example/'.length)}${ready ? '' : ' !'}`,
  );

const GREETER: Objects = {
  services: [service('greeter.shop', { clusterIPs: ['10.96.0.1', 'fd00::1'] })],
  slices: [slice('greeter.shop', [endpoint('10.1.0.1', 'a'), endpoint('10.1.0.2', 'b')])],
  pods: [pod('a', ['10.1.0.1']), pod('b', ['10.1.0.2'], { account: 'canary' })],
};
const BOTH = ['10.1.0.1:15008>50051 ns/shop/sa/greeter', '10.1.0.2:15008>50051 ns/shop/sa/canary'];

describe('names', () => {
  it.each([
    'greeter',
    'greeter:50051',
    'Greeter.SHOP',
    'greeter.shop.',
    'greeter.shop.svc',
    'greeter.shop.svc:50051',
    'greeter.shop.svc.cluster.local',
    'greeter.shop.svc.cluster.local.:50051',
    '10.96.0.1:50051',
    '10.96.0.1',
    '[fd00::1]:50051',
    '[FD00:0:0::1]:50051',
  ])('%s is greeter.shop', (authority) => {
    expect(places(GREETER, authority)).toEqual(BOTH);
    const { found, service: name, port, hint } = ask(GREETER, authority);
    expect([found, name, port, hint]).toEqual([true, 'greeter.shop', 50051, '']);
  });

  it.each([
    ['greeter', 'web', 'no service greeter.web; there is greeter.shop'],
    ['greeter.web', 'shop', 'no service greeter.web; there is greeter.shop'],
    ['nobody', 'shop', 'no service nobody.shop'],
    [
      'greeter.shop.svc.other.domain',
      'shop',
      '"greeter.shop.svc.other.domain" is no name of a service of the cluster',
    ],
    ['greeter.svc', 'shop', '"greeter" is no name of a service of the cluster'],
    ['api.example.com', 'shop', '"api.example.com" is no name of a service or a pod of the cluster'],
    ['a.greeter.web', 'shop', '"a.greeter.web" is no name of a service or a pod of the cluster'],
    ['nobody.greeter.shop', 'shop', 'no pod nobody of the service greeter.shop'],
    ['10.9.9.9:1', 'shop', 'no service and no pod in the mesh has the address 10.9.9.9'],
    ['greeter.shop:0', 'shop', '"greeter.shop:0" is no name and no address'],
    ['greeter.shop:65536', 'shop', '"greeter.shop:65536" is no name and no address'],
    ['gr eeter', 'shop', '"gr eeter" is no name and no address'],
    ['', 'shop', '"" is no name and no address'],
    ['[::zz]:1', 'shop', '"[::zz]:1" is no name and no address'],
    [`${'x'.repeat(301)}`, 'shop', `"${'x'.repeat(128)}" is no name and no address`],
  ])('%s asked in %s is not found', (authority, namespace, hint) => {
    const answer = ask(GREETER, authority, { namespace });
    expect(answer).toEqual({ found: false, service: '', port: 0, endpoints: [], hint, zone: '' });
  });

  it('a short name without a namespace is no name', () => {
    expect(ask(GREETER, 'greeter', { namespace: '' }).found).toBe(false);
  });

  it('depend on the services that they may mean, addresses on all', () => {
    const names = (authority: string) =>
      dependencies({ authority, namespace: 'web', port: 0 }, 'cluster.local')?.map(
        ({ namespace, name }) => `${name}.${namespace}`,
      );
    expect(names('greeter')).toEqual(['greeter.web']);
    expect(names('greeter.shop')).toEqual(['greeter.shop', 'shop.web']);
    expect(names('a.greeter.shop.svc')).toEqual(['greeter.shop']);
    expect(names('10.1.2.3:1')).toBeUndefined();
    expect(names('?')).toEqual([]);
  });
});

describe('ports', () => {
  const TWO = [
    { name: 'metrics', port: 9090 },
    { name: 'grpc', port: 80 },
  ];
  const objects: Objects = {
    ...GREETER,
    services: [service('greeter.shop', { ports: [...TWO, { name: 'dns', port: 53, protocol: 'UDP' }] })],
    slices: [
      slice('greeter.shop', [endpoint('10.1.0.1', 'a')], {
        ports: [
          { name: 'metrics', port: 9100 },
          { name: 'grpc', port: 50051 },
        ],
      }),
      // Named target ports: another version of the pods listens elsewhere.
      slice('greeter.shop', [endpoint('10.1.0.2', 'b')], { ports: [{ name: 'grpc', port: 50052 }] }),
    ],
  };

  it('lead to the target ports of their names, slice by slice', () => {
    expect(places(objects, 'greeter:80')).toEqual([
      '10.1.0.1:15008>50051 ns/shop/sa/greeter',
      '10.1.0.2:15008>50052 ns/shop/sa/canary',
    ]);
    expect(places(objects, 'greeter:9090')).toEqual(['10.1.0.1:15008>9100 ns/shop/sa/greeter']);
  });

  it('none means the only one, or the only one that is gRPC', () => {
    expect(ask(objects, 'greeter').port).toBe(80);
    const neither = {
      ...objects,
      services: [service('greeter.shop', { ports: [{ port: 1, name: 'x' }, { port: 2 }] })],
    };
    expect(ask(neither, 'greeter').hint).toBe(
      'greeter.shop has the ports 1 (x), 2: say which, as in greeter.shop:1',
    );
  });

  it('what the request says is meant where the authority says none', () => {
    expect(ask(objects, 'greeter', { port: 9090 }).port).toBe(9090);
    expect(ask(objects, 'greeter:80', { port: 9090 }).port).toBe(80);
  });

  it('that the service does not have are named', () => {
    expect(ask(objects, 'greeter:50051')).toMatchObject({
      found: true,
      service: 'greeter.shop',
      endpoints: [],
      hint: 'greeter.shop has no port 50051, but 9090 (metrics), 80 (grpc)',
    });
    const udp = {
      ...GREETER,
      services: [service('greeter.shop', { ports: [{ port: 53, protocol: 'UDP' }] })],
    };
    expect(ask(udp, 'greeter').hint).toBe('greeter.shop has no TCP port');
  });
});

describe('endpoints', () => {
  const withEndpoints = (...endpoints: Parameters<typeof slice>[1]): Objects => ({
    ...GREETER,
    slices: [slice('greeter.shop', endpoints)],
  });
  const conditions = (ready?: boolean, serving?: boolean, terminating?: boolean) => ({
    conditions: {
      ...(ready === undefined ? {} : { ready }),
      ...(serving === undefined ? {} : { serving }),
      ...(terminating === undefined ? {} : { terminating }),
    },
  });

  it.each([
    [true, true, false, 'ready'],
    [undefined, undefined, undefined, 'ready'],
    [true, undefined, undefined, 'ready'],
    [false, true, true, 'terminating'],
    [false, false, true, 'left out'],
    [false, undefined, true, 'left out'],
    [false, true, false, 'left out'],
    [false, true, undefined, 'left out'],
    [false, undefined, undefined, 'left out'],
  ] as const)('ready %s, serving %s, terminating %s is %s', (ready, serving, terminating, expected) => {
    const [found] = ask(
      withEndpoints(endpoint('10.1.0.1', 'a', conditions(ready, serving, terminating))),
      'greeter',
    ).endpoints;
    expect(found === undefined ? 'left out' : found.ready ? 'ready' : 'terminating').toBe(expected);
  });

  it('of several slices are one list, each once, in the order of their addresses', () => {
    const objects = {
      ...GREETER,
      slices: [
        slice('greeter.shop', [endpoint('10.1.0.2', 'b')]),
        slice('greeter.shop', [endpoint('10.1.0.1', 'a'), endpoint('10.1.0.2', 'b')]),
      ],
    };
    expect(places(objects, 'greeter')).toEqual(BOTH);
  });

  it('that are not in the mesh are counted, and never told', () => {
    const outside = endpoint('10.1.0.9', 'stranger');
    expect(ask(withEndpoints(outside, endpoint('10.1.0.8', 'other')), 'greeter')).toMatchObject({
      found: true,
      endpoints: [],
      hint: 'greeter.shop has 2 endpoints, none in the mesh: set hauberk.mesh/inject: enabled on its namespace or pods, and make them anew',
    });
    const mixed = ask(withEndpoints(outside, endpoint('10.1.0.1', 'a')), 'greeter');
    expect(mixed.endpoints.map(({ address }) => address)).toEqual(['10.1.0.1']);
    expect(mixed.hint).toContain('1 of 2 endpoints of greeter.shop are not in the mesh');
  });

  it('that are not ready are counted', () => {
    const notReady = endpoint('10.1.0.1', 'a', conditions(false, false, false));
    expect(ask(withEndpoints(notReady), 'greeter').hint).toBe(
      'greeter.shop has 1 endpoint in the mesh that is not ready',
    );
    expect(ask(withEndpoints(notReady, endpoint('10.1.0.9', 'stranger')), 'greeter').hint).toBe(
      'greeter.shop has 1 endpoint in the mesh that is not ready, and 1 not in the mesh',
    );
    expect(ask(withEndpoints(), 'greeter').hint).toBe(
      'greeter.shop has no endpoints: no pod that its selector matches is running',
    );
  });

  it('whose address another pod has by now are not told', () => {
    const reused = { ...GREETER, pods: [pod('a', ['10.1.0.77'])] };
    expect(places(reused, 'greeter')).toEqual([]);
    const made = pod('a', ['10.1.0.1']);
    const anew = { ...GREETER, pods: [{ ...made, metadata: { ...made.metadata, uid: 'another' } }] };
    expect(places(anew, 'greeter')).toEqual([]);
  });

  it('are dialled where their pods say, as whom their pods say', () => {
    const made = pod('a', ['10.1.0.1'], { account: 'other' });
    const objects = {
      ...GREETER,
      pods: [{ ...made, metadata: { ...made.metadata, annotations: { 'hauberk.mesh/port': '16000' } } }],
    };
    expect(places(objects, 'greeter')).toEqual(['10.1.0.1:16000>50051 ns/shop/sa/other']);
    const bad = {
      ...made,
      metadata: { ...made.metadata, annotations: { 'hauberk.mesh/port': 'x' } },
      spec: {},
    };
    expect(places({ ...GREETER, pods: [bad] }, 'greeter')).toEqual([
      '10.1.0.1:15008>50051 ns/shop/sa/default',
    ]);
  });

  it('of pods with two addresses are told once: the first, or that of the family that was asked for', () => {
    const objects: Objects = {
      services: [service('greeter.shop', { clusterIPs: ['10.96.0.1', 'fd00::1'] })],
      slices: [
        slice('greeter.shop', [endpoint('fd00::a', 'a')], { addressType: 'IPv6' }),
        slice('greeter.shop', [endpoint('10.1.0.1', 'a')]),
      ],
      pods: [pod('a', ['10.1.0.1', 'fd00::a'])],
    };
    const addresses = (authority: string) => ask(objects, authority).endpoints.map(({ address }) => address);
    expect(addresses('greeter')).toEqual(['10.1.0.1']);
    expect(addresses('10.96.0.1')).toEqual(['10.1.0.1']);
    expect(addresses('[fd00::1]')).toEqual(['fd00::a']);
  });

  it('of FQDN slices, and what is no address, are left out', () => {
    const named = slice('greeter.shop', [endpoint('db.example.com', undefined)], { addressType: 'FQDN' });
    const odd = slice('greeter.shop', [endpoint('nonsense', 'a'), { addresses: [] }]);
    expect(ask({ ...GREETER, slices: [named, odd] }, 'greeter').endpoints).toEqual([]);
  });
});

describe('zones', () => {
  const inZone = (address: string, name: string, zone: string, forZones?: string[]) =>
    endpoint(address, name, {
      zone,
      ...(forZones === undefined ? {} : { hints: { forZones: forZones.map((one) => ({ name: one })) } }),
    });
  const zones = (objects: Objects, zone: string): string[] => {
    const answer = ask(objects, 'greeter', { zone });
    return [answer.zone, ...answer.endpoints.map((one) => one.zone)];
  };

  it('are told as they are where the service asks for no nearness', () => {
    const objects = {
      ...GREETER,
      slices: [slice('greeter.shop', [inZone('10.1.0.1', 'a', 'x'), inZone('10.1.0.2', 'b', 'y')])],
    };
    expect(zones(objects, 'x')).toEqual(['', 'x', 'y']);
  });

  it('of the hints count where all endpoints have them', () => {
    const hinted = [inZone('10.1.0.1', 'a', 'x', ['x', 'z']), inZone('10.1.0.2', 'b', 'y', ['y'])];
    const objects = { ...GREETER, slices: [slice('greeter.shop', hinted)] };
    expect(zones(objects, 'z')).toEqual(['z', 'z', '']);
    expect(zones(objects, '')).toEqual(['', 'x', 'y']);
    const half = { ...GREETER, slices: [slice('greeter.shop', [hinted[0]!, inZone('10.1.0.2', 'b', 'y')])] };
    expect(zones(half, 'z')).toEqual(['', 'x', 'y']);
  });
});

describe('headless services', () => {
  const objects: Objects = {
    services: [service('db.shop', { clusterIP: 'None', clusterIPs: ['None'] })],
    slices: [
      slice('db.shop', [
        endpoint('10.1.0.1', 'db-0', { hostname: 'db-0' }),
        endpoint('10.1.0.2', 'db-1', { hostname: 'db-1' }),
        endpoint('10.1.0.3', 'db-2', {}),
      ]),
    ],
    pods: [pod('db-0', ['10.1.0.1']), pod('db-1', ['10.1.0.2']), pod('db-2', ['10.1.0.3'])],
  };

  it('are all their pods, at the port that is asked for', () => {
    expect(places(objects, 'db:50051')).toHaveLength(3);
    expect(places(objects, 'db:7777')[0]).toBe('10.1.0.1:15008>7777 ns/shop/sa/greeter');
  });

  it.each(['db-1.db', 'db-1.db.shop', 'db-1.db.shop.svc', 'db-1.db.shop.svc.cluster.local:50051'])(
    '%s is one pod',
    (authority) => {
      expect(places(objects, authority)).toEqual(['10.1.0.2:15008>50051 ns/shop/sa/greeter']);
      expect(ask(objects, authority).service).toBe('db.shop');
    },
  );

  it('a pod without a host name is found by its own', () => {
    expect(places(objects, 'db-2.db.shop')).toEqual(['10.1.0.3:15008>50051 ns/shop/sa/greeter']);
    expect(ask(objects, 'db-9.db.shop').found).toBe(false);
  });

  it('a service name.namespace goes before a pod of a service in the own namespace', () => {
    const both = { ...objects, services: [...(objects.services ?? []), service('db-1.db')] };
    expect(ask(both, 'db-1.db').service).toBe('db-1.db');
  });
});

describe('services that are elsewhere', () => {
  it('an ExternalName is found, with what to do', () => {
    const external = service('pay.shop', {
      type: 'ExternalName',
      externalName: 'pay.example.com',
      clusterIP: '',
    });
    expect(ask({ services: [external] }, 'pay:443')).toMatchObject({
      found: true,
      service: 'pay.shop',
      endpoints: [],
      hint: 'pay.shop stands for pay.example.com, outside of the mesh: call that without the sidecar (the annotation hauberk.mesh/no-grpc-proxy lists it; in transparent mode hauberk.mesh/skip-subnets has its addresses)',
    });
  });

  it('a service without a selector leads to pods of the mesh only', () => {
    const { selector: _none, ...spec } = service('old.shop').spec ?? {};
    const old = { ...service('old.shop'), spec };
    const slices = [slice('old.shop', [endpoint('192.0.2.1', undefined)])];
    expect(ask({ services: [old], slices }, 'old')).toMatchObject({
      found: true,
      endpoints: [],
      hint: 'old.shop has 1 endpoint, none in the mesh, and no selector: it leads out of the cluster',
    });
    expect(ask({ services: [old] }, 'old').hint).toBe('old.shop has no selector and no endpoints');
    expect(places({ services: [old], slices, pods: [pod('a', ['192.0.2.1'])] }, 'old')).toEqual([
      '192.0.2.1:15008>50051 ns/shop/sa/greeter',
    ]);
  });
});

describe('addresses of pods', () => {
  it('lead to the pod, under the name of a service that sends calls there', () => {
    expect(ask(GREETER, '10.1.0.2:50051')).toEqual({
      found: true,
      service: 'greeter.shop',
      port: 50051,
      hint: '',
      zone: '',
      endpoints: [
        {
          address: '10.1.0.2',
          meshPort: 15008,
          targetPort: 50051,
          spiffeId: 'spiffe://shop.example/ns/shop/sa/canary',
          zone: '',
          ready: true,
        },
      ],
    });
    expect(ask(GREETER, '10.1.0.2:9').service).toBe('b.shop');
    expect(ask(GREETER, '10.1.0.2').hint).toBe('10.1.0.2 is the pod b.shop: say which port of it');
  });

  it('of pods that are not in the mesh, that have ended, or that are a node’s, lead nowhere', () => {
    const objects: Objects = {
      slices: [slice('greeter.shop', [endpoint('10.1.0.9', 'stranger')])],
      pods: [
        pod('ended', ['10.1.0.5'], { status: { phase: 'Succeeded', podIPs: [{ ip: '10.1.0.5' }] } }),
        pod('node', ['10.1.0.6'], { spec: { hostNetwork: true } }),
      ],
    };
    expect(ask(objects, '10.1.0.9:1').hint).toContain(
      'it is an endpoint of greeter.shop: set hauberk.mesh/inject',
    );
    expect(ask(objects, '10.1.0.5:1').found).toBe(false);
    expect(ask(objects, '10.1.0.6:1').found).toBe(false);
  });
});
