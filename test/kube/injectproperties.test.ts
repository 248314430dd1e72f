import fc from 'fast-check';
import { expect, it } from 'vitest';
import { planOf } from '../../src/capture/plan.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { ANNOTATIONS } from '../../src/kube/injector/annotations.ts';
import { inject } from '../../src/kube/injector/inject.ts';
import type { Pod } from '../../src/kube/injector/pod.ts';
import { readStatus, withoutInjection } from '../../src/kube/injector/status.ts';
import {
  configTextOf,
  greeterPod,
  INJECTOR_SETTINGS,
  injectPod,
  NAMESPACE,
  type TestPod,
} from '../harness/injection.ts';
import { schemaFaults } from '../harness/kubernetes-schema.ts';
import { podSecurityViolations } from '../harness/podsecurity.ts';

const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,12}[a-z0-9])?$/);
const port = fc.integer({ min: 1, max: 14_999 });

const probe = (ports: readonly number[]) => {
  const known = fc.constantFrom(...ports);
  const timing = fc.record(
    { periodSeconds: fc.integer({ min: 1, max: 60 }), timeoutSeconds: fc.integer({ min: 1, max: 60 }) },
    { requiredKeys: [] },
  );
  const action = fc.oneof(
    known.map((to) => ({ tcpSocket: { port: to } })),
    known.map((to) => ({ grpc: { port: to } })),
    fc.tuple(known, fc.webPath(), fc.webQueryParameters()).map(([to, path, query]) => ({
      httpGet: { port: to, path: `${path}?${query}`, httpHeaders: [{ name: 'x-a', value: '1' }] },
    })),
    fc.constant({ exec: { command: ['true'] } }),
  );
  return fc.tuple(action, timing).map(([does, when]) => ({ ...does, ...when }));
};

const restricted = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } };

function container(called: string, ports: readonly number[], lasts: boolean) {
  return fc
    .record(
      {
        env: fc.uniqueArray(
          fc.record({
            name: fc.constantFrom('A', 'B', 'grpc_proxy', 'no_grpc_proxy', 'no_proxy'),
            value: fc.oneof(fc.string(), fc.constantFrom('', 'db', 'db,', 'localhost', '$(A)')),
          }),
          {
            selector: (variable) => variable.name,
          },
        ),
        ...(lasts && ports.length > 0
          ? { livenessProbe: probe(ports), readinessProbe: probe(ports), startupProbe: probe(ports) }
          : {}),
      },
      { requiredKeys: [] },
    )
    .map((rest) => ({
      name: called,
      image: 'example.com/app:1',
      securityContext: restricted,
      ...(ports.length === 0
        ? {}
        : {
            ports: ports.map((containerPort, i) => ({
              containerPort,
              ...(i === 0 ? { name: `grpc-${containerPort}` } : {}),
            })),
          }),
      ...rest,
    }));
}

const EXAMPLES = Object.entries(ANNOTATIONS).filter(
  ([key]) => !['ports', 'mode', 'capture-ports', 'inject', 'native'].includes(key),
);

const annotations = (mode: 'explicit' | 'transparent') =>
  fc
    .subarray(EXAMPLES.filter(([, { mode: only }]) => only === undefined || only === mode))
    .map((chosen) => Object.fromEntries(chosen.map(([key, { example }]) => [`hauberk.mesh/${key}`, example])))
    .map((chosen) => ({
      'example.com/a.b': 'x',
      'hauberk.mesh/mode': mode,
      ...(mode === 'transparent' ? { 'hauberk.mesh/capture-ports': '50051,9090' } : {}),
      ...('hauberk.mesh/no-grpc-proxy' in chosen ? { 'hauberk.mesh/grpc-proxy': 'true' } : {}),
      ...chosen,
    }));

/** Pods that an API server takes, each of which can have a sidecar. */
const pods: fc.Arbitrary<TestPod> = fc
  .tuple(
    fc.uniqueArray(name, { minLength: 1, maxLength: 6 }),
    fc.uniqueArray(port, { maxLength: 4 }),
    fc.constantFrom('explicit' as const, 'transparent' as const),
    fc.integer({ min: 0, max: 120 }),
  )
  .chain(([names, ports, mode, grace]) => {
    const [first, ...others] = names as [string, ...string[]];
    const at = Math.floor(others.length / 2);
    return fc
      .tuple(
        annotations(mode),
        container(first, ports, true),
        fc.tuple(...others.slice(0, at).map((called) => container(called, [], true))),
        fc.tuple(...others.slice(at).map((called) => container(called, [], false))),
        fc.boolean(),
        fc.boolean(),
      )
      .map(([chosen, app, containers, inits, hasVolumes, bare]) => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { generateName: 'web-', annotations: chosen, ...(bare ? {} : { labels: { 'a/b': 'c' } }) },
        spec: {
          terminationGracePeriodSeconds: grace,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 1000,
            fsGroup: 1000,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          containers: [app, ...containers],
          ...(inits.length === 0 ? {} : { initContainers: inits }),
          ...(hasVolumes ? { volumes: [{ name: 'data', emptyDir: {} }] } : {}),
        },
      }));
  });

/** Lists and mappings that are there and empty are as good as none. */
function pruned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(pruned);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .map(([key, item]) => [key, pruned(item)] as const)
    .filter(
      ([key, item]) =>
        !(
          ['env', 'labels', 'annotations', 'initContainers', 'volumes'].includes(key) &&
          Object.keys(item as object).length === 0
        ),
    );
  return Object.fromEntries(entries);
}

it('an injected pod is one that the API takes, its sidecar takes its configuration, and a second injection changes nothing', () => {
  fc.assert(
    fc.property(pods, fc.boolean(), (pod, serverKnowsNative) => {
      expect(schemaFaults(pod)).toEqual([]);
      const before = structuredClone(pod);
      const { pod: injected } = injectPod(pod, { serverKnowsNative });
      expect(pod).toEqual(before);
      expect(schemaFaults(injected)).toEqual([]);
      const capture = injected.spec.initContainers?.find((each) => each.name === 'hauberk-capture');
      expect(capture === undefined).toBe(pod.metadata.annotations?.['hauberk.mesh/mode'] === 'explicit');
      if (capture === undefined) expect(podSecurityViolations(injected, 'restricted')).toEqual([]);
      else expect(planOf(optionsOf(capture.args ?? [])).redirects).toHaveLength(2);
      expect(() => parseConfig(configTextOf(injected), { file: 'HAUBERK_CONFIG' })).not.toThrow();
      expect(injectPod(injected, { serverKnowsNative }).patch).toEqual([]);
      const status = readStatus(injected as unknown as Pod);
      expect(
        pruned(withoutInjection(injected as unknown as Pod, status as NonNullable<typeof status>)),
      ).toEqual(pruned(pod));
    }),
    { numRuns: 150 },
  );
});

it('whatever ports the app has, what is admitted in transparent mode is what the init container takes', () => {
  const any = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 14_995, max: 15_205 }));
  const some = fc.uniqueArray(any, { minLength: 1, maxLength: 3 });
  let admitted = 0;
  fc.assert(
    fc.property(some, some, fc.option(some, { nil: undefined }), (ports, captured, skipped) => {
      const pod = greeterPod({
        mode: 'transparent',
        ports: ports.join(','),
        'capture-ports': captured.join(','),
        ...(skipped === undefined ? {} : { 'skip-ports': skipped.join(',') }),
      });
      const result = inject(pod, NAMESPACE, INJECTOR_SETTINGS);
      if (!('patch' in result)) return;
      admitted++;
      const capture = injectPod(pod).pod.spec.initContainers?.find(({ name }) => name === 'hauberk-capture');
      expect(() => planOf(optionsOf(capture?.args ?? []))).not.toThrow();
    }),
    { numRuns: 300 },
  );
  expect(admitted).toBeGreaterThan(20);
});

/** As commander would give them to `capture install`. */
function optionsOf(args: readonly string[]): Parameters<typeof planOf>[0] {
  const options: Record<string, string[]> = {};
  for (let i = 2; i < args.length; i += 2) {
    const key = (args[i] as string)
      .slice(2)
      .replaceAll(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase());
    options[key] = [...(options[key] ?? []), args[i + 1] as string];
  }
  return { ...options, uid: options.uid?.[0] as string };
}

/** Replaces one thing somewhere in a pod by junk. */
function damaged(pod: unknown, path: number[], junk: unknown): unknown {
  if (path.length === 0 || typeof pod !== 'object' || pod === null || Object.keys(pod).length === 0)
    return junk;
  const keys = Object.keys(pod);
  const key = keys[(path[0] as number) % keys.length] as string;
  const copy = structuredClone(pod) as Record<string, unknown>;
  copy[key] = damaged(copy[key], path.slice(1), junk);
  return copy;
}

it('whatever comes instead of a pod, the answer is one of the three, and nothing throws', () => {
  fc.assert(
    fc.property(
      pods,
      fc.array(fc.nat(20), { maxLength: 8 }),
      fc.jsonValue(),
      fc.boolean(),
      (pod, path, junk, injected) => {
        const from = injected ? injectPod(pod).pod : pod;
        const result = inject(damaged(from, path, junk), NAMESPACE, INJECTOR_SETTINGS);
        const forms = ['patch', 'refused', 'skipped'].filter((form) => form in result);
        expect(forms).toHaveLength(1);
        if ('refused' in result) expect(result.refused).toMatch(/^hauberk: ./);
      },
    ),
    { numRuns: 500 },
  );
});

/** Paths of everything in a value. */
function pathsOf(value: unknown, path: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [[...path]];
  return [[...path], ...Object.entries(value).flatMap(([key, item]) => pathsOf(item, [...path, key]))];
}

it('null stands for a field that is not there, wherever it comes', () => {
  const pod = greeterPod({ mode: 'transparent', 'capture-ports': '9090' });
  Object.assign(pod.spec.containers[0] as object, {
    livenessProbe: { httpGet: { port: 50051, path: '/', httpHeaders: [{ name: 'a', value: 'b' }] } },
    readinessProbe: { tcpSocket: { port: 50051 }, httpGet: null, grpc: null },
    startupProbe: { grpc: { port: 50051, service: 'a' } },
    env: [{ name: 'A', value: 'b' }],
    lifecycle: { preStop: { exec: { command: ['true'] } } },
  });
  for (const from of [pod, injectPod(pod).pod]) {
    for (const path of pathsOf(from).slice(1)) {
      const copy: unknown = structuredClone(from);
      let at = { root: copy } as Record<string, unknown>;
      let last = 'root';
      for (const key of path) {
        at = at[last] as Record<string, unknown>;
        last = key;
      }
      at[last] = null;
      expect(() => inject(copy, NAMESPACE, INJECTOR_SETTINGS), path.join('.')).not.toThrow();
    }
  }
});

it('keys that JavaScript means something by are keys like others', () => {
  const text = JSON.stringify({
    ...injectPod({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'a', annotations: { OWN: 'x' }, labels: { OWN: 'x' } },
      spec: { containers: [{ name: 'app', OWN: { polluted: true }, env: [{ name: 'OWN', value: '1' }] }] },
    }).pod,
  }).replaceAll('OWN', '__proto__');
  const { pod, patch } = injectPod(JSON.parse(text));
  expect(patch).toEqual([]);
  expect(Object.hasOwn(pod.metadata.annotations as object, '__proto__')).toBe(true);
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  const raw =
    '{"metadata":{"annotations":{"__proto__":"x","hauberk.mesh/__proto__":"x"}},"spec":{"containers":[]}}';
  expect(() => injectPod(JSON.parse(raw))).toThrow('the annotation "hauberk.mesh/__proto__" is not known');
});

it('keys with ~ and / in them stay what they are', () => {
  const metadata = { name: 'a', labels: { 'a~1b/c~0d': '1' }, annotations: { '~/~': '2' } };
  const { pod } = injectPod({ metadata, spec: { containers: [] } });
  expect(pod.metadata.labels).toEqual({ ...metadata.labels, 'hauberk.mesh/injected': 'true' });
  expect(pod.metadata.annotations).toMatchObject(metadata.annotations);
});

it('a pod as large as API servers take is injected', () => {
  const containers = Array.from({ length: 2000 }, (_, i) => ({
    name: `c${i}`,
    ports: [{ containerPort: i + 1 }],
    env: [{ name: 'A', value: 'x'.repeat(1000) }],
  }));
  const { pod } = injectPod({ metadata: { name: 'a' }, spec: { containers } });
  expect(pod.spec.containers).toHaveLength(2000);
  expect(injectPod(pod).patch).toEqual([]);
});

it('a status that is larger than any that the injector writes is refused', () => {
  const { pod } = injectPod({ metadata: { name: 'a' }, spec: { containers: [{ name: 'app' }] } });
  const status = JSON.parse(pod.metadata.annotations?.['hauberk.mesh/status'] as string);
  const padded = JSON.stringify({ ...status, more: 'x'.repeat(300_000) });
  Object.assign(pod.metadata.annotations as object, { 'hauberk.mesh/status': padded });
  expect(() => injectPod(pod)).toThrow('that no injector has written');
});
