import { expect, it } from 'vitest';
import { configTextOf, greeterPod, injectPod, type TestPod } from '../harness/injection.ts';
import { schemaFaults } from '../harness/kubernetes-schema.ts';

const again = (
  pod: TestPod,
  ...rest: Parameters<typeof injectPod> extends [object, ...infer R] ? R : never
) => injectPod(pod, ...rest).patch;

const FORMS = [{}, { native: 'false' }, { mode: 'transparent' }, { mode: 'transparent', native: 'false' }];

it('injecting an injected pod changes nothing', () => {
  for (const form of FORMS) expect(again(injectPod(greeterPod(form)).pod)).toEqual([]);
});

it('a pod that another webhook has changed since gets only what it lacks', () => {
  for (const form of FORMS) {
    const { pod } = injectPod(greeterPod(form));
    const whole = structuredClone(pod);
    const proxy = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find(
      ({ name }) => name === 'hauberk-proxy',
    );
    // As LimitRanger, ServiceAccount admission, a registry mirror and a vault's injector do.
    Object.assign(proxy as object, { image: 'mirror.example/hauberk:1', tty: false });
    proxy?.volumeMounts?.push({
      name: 'kube-api-access',
      mountPath: '/var/run/secrets/kubernetes.io',
    });
    pod.spec.initContainers = [
      { name: 'vault', image: 'example.com/vault:1' },
      ...(pod.spec.initContainers ?? []),
    ];
    pod.spec.containers.push({ name: 'late', image: 'example.com/late:1' });
    pod.spec.volumes = (pod.spec.volumes ?? []).filter(({ name }) => name !== 'hauberk-run');
    const patch = again(pod);
    expect(patch.map(({ op, path }) => `${op} ${path}`)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^add \/spec\/volumes\/[0-9]$/)]),
    );
    const allowed =
      /^(add \/spec\/volumes\/|replace \/metadata\/annotations\/hauberk.mesh~1status|add \/spec\/.*containers\/[0-9]\/env|replace \/spec\/initContainers$)/i;
    expect(patch.filter(({ op, path }) => !allowed.test(`${op} ${path}`))).toEqual([]);
    const healed = injectPod(pod).pod;
    expect(new Set(healed.spec.volumes?.map(({ name }) => name))).toEqual(
      new Set(whole.spec.volumes?.map(({ name }) => name)),
    );
    expect(again(healed)).toEqual([]);
  }
});

it('what other webhooks have put before ours goes behind it again, and nothing is moved twice', () => {
  const names = (list: ReadonlyArray<{ name: string }> | undefined) => list?.map(({ name }) => name);
  const orders = FORMS.map((form) => {
    const pod = greeterPod(form);
    pod.spec.initContainers = [{ name: 'migrate', image: 'example.com/migrate:1' }];
    const { pod: injected } = injectPod(pod);
    const inits = injected.spec.initContainers ?? [];
    const first = { name: 'first', image: 'example.com/first:1' };
    const proxy = inits.find(({ name }) => name === 'hauberk-proxy');
    if (proxy !== undefined) Object.assign(proxy, { image: 'mirror.example/hauberk:1' });
    inits.unshift({ name: 'vault', image: 'example.com/vault:1' });
    inits.push({ name: 'late', image: 'example.com/late:1' });
    injected.spec.containers.unshift(first);
    const { pod: healed } = injectPod(injected);
    expect(again(healed)).toEqual([]);
    expect(schemaFaults(healed)).toEqual([]);
    if (proxy !== undefined) {
      expect(healed.spec.initContainers).toContainEqual(
        expect.objectContaining({ image: 'mirror.example/hauberk:1', restartPolicy: 'Always' }),
      );
    }
    return [names(healed.spec.initContainers), names(healed.spec.containers)];
  });
  expect(orders).toEqual([
    [
      ['hauberk-proxy', 'vault', 'migrate', 'late'],
      ['first', 'app'],
    ],
    [
      ['vault', 'migrate', 'late'],
      ['hauberk-proxy', 'first', 'app'],
    ],
    [
      ['hauberk-capture', 'hauberk-proxy', 'vault', 'migrate', 'late'],
      ['first', 'app'],
    ],
    [
      ['vault', 'migrate', 'late', 'hauberk-capture'],
      ['hauberk-proxy', 'first', 'app'],
    ],
  ]);
});

it("kubectl means the app's first container, however often its pod is injected", () => {
  const key = 'kubectl.kubernetes.io/default-container';
  const said = (pod: TestPod) => pod.metadata.annotations?.[key];
  const { pod } = injectPod(greeterPod({ native: 'false' }));
  expect(said(pod)).toBe('app');
  expect(said(injectPod(greeterPod()).pod)).toBeUndefined();
  const own = greeterPod({ native: 'false' });
  Object.assign(own.metadata.annotations as object, { [key]: 'other' });
  expect(said(injectPod(own).pod)).toBe('other');
  expect(again(injectPod(own).pod)).toEqual([]);
  pod.spec.containers.unshift({ name: 'late', image: 'example.com/late:1' });
  const { pod: second } = injectPod(pod);
  expect(said(second)).toBe('app');
  expect(again(second)).toEqual([]);
  Object.assign(second.metadata.annotations as object, { [key]: 'late' });
  expect(said(injectPod(second).pod)).toBe('late');
  expect(again(injectPod(second).pod)).toEqual([]);
  const native = structuredClone(pod);
  Object.assign(native.metadata.annotations as object, { 'hauberk.mesh/native': 'true' });
  expect(said(injectPod(native).pod)).toBeUndefined();
});

it('a copied pod with another annotation exempts what that says, and its own list has what it had', () => {
  const pod = greeterPod({ 'no-grpc-proxy': 'otel.obs' });
  pod.spec.containers.push({ name: 'own', env: [{ name: 'no_grpc_proxy', value: 'db' }] });
  const { pod: injected } = injectPod(pod);
  const lists = (from: TestPod) =>
    from.spec.containers.map(({ env }) => env?.find(({ name }) => name === 'no_grpc_proxy')?.value);
  expect(lists(injected)).toEqual([
    'localhost,127.0.0.1,::1,otel.obs',
    'db,localhost,127.0.0.1,::1,otel.obs',
  ]);
  Object.assign(injected.metadata.annotations as object, { 'hauberk.mesh/no-grpc-proxy': '.example' });
  const { pod: second } = injectPod(injected);
  expect(lists(second)).toEqual(['localhost,127.0.0.1,::1,.example', 'db,localhost,127.0.0.1,::1,.example']);
  delete second.metadata.annotations?.['hauberk.mesh/no-grpc-proxy'];
  Object.assign(second.metadata.annotations as object, { 'hauberk.mesh/grpc-proxy': 'false' });
  expect(lists(injectPod(second).pod)).toEqual([undefined, 'db']);
  // What another webhook writes into the list stays.
  const own = injected.spec.containers.find(({ name }) => name === 'own')?.env;
  Object.assign(own?.find(({ name }) => name === 'no_grpc_proxy') as object, { value: 'cache' });
  const { pod: third } = injectPod(injected);
  expect(lists(third)[1]).toBe('cache,localhost,127.0.0.1,::1,.example');
  expect(again(third)).toEqual([]);
});

it('a container or variable of ours that another webhook has removed comes back', () => {
  const { pod } = injectPod(greeterPod());
  const damaged = structuredClone(pod);
  damaged.spec.initContainers = [];
  delete damaged.spec.containers[0]?.env;
  expect(injectPod(damaged).pod).toEqual(pod);
});

it('a pod that was injected by another version or with other settings is injected anew', () => {
  for (const form of FORMS) {
    const { pod: old } = injectPod(greeterPod(form), {
      version: '0.0.0-old',
      image: 'hauberk:old',
      uid: 15009,
    });
    const { pod: fresh } = injectPod(greeterPod(form));
    const renewed = injectPod(old).pod;
    expect(renewed.metadata.annotations).toEqual(fresh.metadata.annotations);
    expect(renewed.spec).toEqual(fresh.spec);
  }
});

it('from transparent to explicit, a copied pod loses its capture and gets its own probes back', () => {
  const pod = greeterPod({ mode: 'transparent' });
  const readinessProbe = { grpc: { port: 50051 }, periodSeconds: 7 };
  Object.assign(pod.spec.containers[0] as object, { readinessProbe });
  const { pod: copied } = injectPod(pod);
  expect(copied.spec.containers[0]?.readinessProbe).toEqual({
    periodSeconds: 7,
    httpGet: { path: '/app-probe/app/readyz', port: 15020 },
  });
  delete copied.metadata.annotations?.['hauberk.mesh/mode'];
  const { pod: result } = injectPod(copied);
  expect(result.spec.containers[0]?.readinessProbe).toEqual(readinessProbe);
  expect(result.spec.initContainers?.map(({ name }) => name)).toEqual(['hauberk-proxy']);
  expect(schemaFaults(result)).toEqual([]);
});

it('names of ours in a pod that was not injected are refused, and so is a status that nobody wrote', () => {
  const named = greeterPod();
  named.spec.containers.push({ name: 'hauberk-proxy', image: 'evil' });
  expect(() => injectPod(named)).toThrow('it has a container "hauberk-proxy" of its own');
  const init = greeterPod();
  init.spec.initContainers = [{ name: 'hauberk-capture' }];
  expect(() => injectPod(init)).toThrow('it has a container "hauberk-capture" of its own');
  const ephemeral = greeterPod();
  ephemeral.spec.ephemeralContainers = [{ name: 'hauberk-proxy' }];
  expect(() => injectPod(ephemeral)).toThrow('it has a container "hauberk-proxy" of its own');
  const volume = greeterPod();
  volume.spec.volumes = [{ name: 'hauberk-run', emptyDir: {} }];
  expect(() => injectPod(volume)).toThrow('it has a volume "hauberk-run" of its own');
  for (const status of [
    '',
    '{',
    '[]',
    'null',
    '{"version":1}',
    '{"version":"1","fingerprint":"x","env":{"a":1},"probes":[]}',
    '{"version":"1","fingerprint":"x","env":{},"probes":[],"defaultContainer":1}',
    '{"version":"1","fingerprint":"x","env":{},"probes":[],"exempt":{"app":1}}',
    '{"version":"1","fingerprint":"x","env":{},"probes":[],"exempt":[]}',
  ]) {
    const pod = greeterPod();
    pod.metadata.annotations = { 'hauberk.mesh/status': status };
    expect(() => injectPod(pod)).toThrow(
      'has an annotation hauberk.mesh/status that no injector has written',
    );
  }
});

it("no container of the app mounts the sidecar's volumes, before or after", () => {
  const mount = { name: 'hauberk-token', mountPath: '/stolen' };
  const pod = greeterPod();
  Object.assign(pod.spec.containers[0] as object, { volumeMounts: [mount] });
  expect(() => injectPod(pod)).toThrow(
    'container "app" mounts "hauberk-token", which is the sidecar\'s alone',
  );
  const { pod: injected } = injectPod(greeterPod());
  Object.assign(injected.spec.containers[0] as object, { volumeMounts: [mount] });
  expect(() => injectPod(injected)).toThrow('container "app" mounts "hauberk-token"');
});

it('a copied status keeps no foreign work in containers and volumes of ours', () => {
  for (const form of FORMS) {
    const { pod: honest } = injectPod(greeterPod(form));
    const forged = structuredClone(honest);
    for (const each of [...(forged.spec.initContainers ?? []), ...forged.spec.containers]) {
      if (!each.name.startsWith('hauberk-')) continue;
      Object.assign(each, {
        command: ['sh'],
        args: ['-c', 'true'],
        securityContext: { runAsUser: 0, privileged: false },
        envFrom: [{ configMapRef: { name: 'mine' } }],
        volumeMounts: each.volumeMounts?.map((mount) => ({ ...mount, name: 'mine', readOnly: true })),
      });
      each.env = [
        { name: 'HAUBERK_CONFIG', value: 'policy: open' },
        { name: 'HAUBERK_POLICY', value: 'open' },
        { name: 'NODE_OPTIONS', value: '--inspect' },
        { name: 'OTHER', value: 'x' },
      ];
    }
    const run = forged.spec.volumes?.find(({ name }) => name === 'hauberk-run') as Record<string, unknown>;
    Object.assign(run, { emptyDir: { medium: '' } });
    const { pod } = injectPod(forged);
    const ours = (from: TestPod) =>
      [...(from.spec.initContainers ?? []), ...from.spec.containers].filter(({ name }) =>
        name.startsWith('hauberk-'),
      );
    expect(configTextOf(pod)).toBe(configTextOf(honest));
    expect(pod.spec.volumes).toEqual(honest.spec.volumes);
    for (const [at, wanted] of ours(honest).entries()) {
      const { command, args, envFrom, env, securityContext } = ours(pod)[
        at
      ] as (typeof pod.spec.containers)[0];
      expect({ command, args, envFrom }).toEqual({
        command: undefined,
        args: wanted.args,
        envFrom: undefined,
      });
      expect(securityContext).toEqual({ privileged: false, ...(wanted.securityContext as object) });
      expect(env).toEqual([...(wanted.env ?? []), { name: 'OTHER', value: 'x' }]);
      expect(ours(pod)[at]?.volumeMounts?.map(({ name }) => name)).toEqual(
        wanted.volumeMounts?.map(({ name }) => name),
      );
    }
    expect(again(pod)).toEqual([]);
  }
});

it('a foreign status gives a container nothing but what an injection gives', () => {
  const { pod: honest } = injectPod(greeterPod());
  const forged = structuredClone(honest);
  forged.spec.initContainers = [{ name: 'hauberk-proxy', image: 'evil', restartPolicy: 'Always' }];
  const status = JSON.parse(forged.metadata.annotations?.['hauberk.mesh/status'] ?? '');
  status.fingerprint = '0000000000000000';
  Object.assign(forged.metadata.annotations as object, { 'hauberk.mesh/status': JSON.stringify(status) });
  const { pod } = injectPod(forged);
  expect(pod.spec.initContainers).toEqual(honest.spec.initContainers);
  expect(configTextOf(pod)).toBe(configTextOf(honest));
});
