import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { CONTROLLER_FORM } from '../../src/config/controllerform.ts';
import { overridableKeys } from '../../src/config/environment.ts';
import { ConfigError } from '../../src/config/errors.ts';
import { loadControllerConfig } from '../../src/config/load.ts';
import { parseForm } from '../../src/config/parse.ts';
import { CONTROLLER_PAGE, editorSchema } from '../../src/config/reference.ts';

const FILE = '/etc/hauberk/controller.yaml';
const read = (text: string, env: Record<string, string> = {}) =>
  parseForm(CONTROLLER_FORM, text, { file: FILE, env });

/** What is wrong, as `line:column code message`. */
function linesOf(text: string, env: Record<string, string> = {}): string[] {
  try {
    read(text, env);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.issues.map(
      ({ line, column, code, message, variable }) => `${variable ?? `${line}:${column}`} ${code} ${message}`,
    );
  }
}

describe('the configuration of the controller', () => {
  it('has a default for every key', () => {
    const config = read('{}');
    expect(config).toMatchObject({
      trustDomain: 'cluster.local',
      namespace: undefined,
      serviceName: 'hauberk-controller',
      issuer: {
        svidTtlMs: 86_400_000,
        audience: 'hauberk',
        caSecret: 'hauberk-ca',
        caTtlMs: 3650 * 86_400_000,
      },
      webhook: { configuration: 'hauberk-injector', tls: { source: 'self', secret: 'hauberk-webhook-tls' } },
      injector: { uid: 15_008, mode: 'explicit', native: 'auto', policy: 'open', proxy: {} },
      leader: { lease: 'hauberk-controller', durationMs: 15_000, renewMs: 10_000, retryMs: 2_000 },
      kubernetes: { server: undefined, ca: undefined, token: undefined },
      drain: { deadlineMs: 10_000 },
    });
    expect(config.control.listen).toEqual([
      { kind: 'tcp', host: '0.0.0.0', port: 15_010 },
      { kind: 'tcp', host: '::', port: 15_010 },
    ]);
  });

  it('takes the files of the webhook, the amounts and the keys of sidecars', () => {
    const config = read(`
webhook: { tls: files, cert: tls.crt, key: /secret/tls.key }
injector:
  image: registry.example:5000/mesh/hauberk:1.2@sha256:${'a'.repeat(64)}
  resources: { requests: { cpu: 100m, memory: 64Mi }, limits: { cpu: "2" } }
  proxy: { session: { idle: 30m }, pool: { size: 2 } }
kubernetes: { server: "https://[::1]:6443/", ca: ca.pem, token: token }
monitoring: { adapters: [stdout, { file: { path: audit.jsonl } }] }
`);
    expect(config.webhook.tls).toEqual({
      source: 'files',
      cert: '/etc/hauberk/tls.crt',
      key: '/secret/tls.key',
    });
    expect(config.injector.resources).toEqual({
      requests: { cpu: '100m', memory: '64Mi' },
      limits: { cpu: '2' },
    });
    expect(config.injector.proxy).toEqual({ session: { idle: '30m' }, pool: { size: 2 } });
    expect(config.kubernetes.server).toBe('https://[::1]:6443');
    expect(config.monitoring.adapters).toEqual([
      { type: 'stdout' },
      { type: 'file', path: '/etc/hauberk/audit.jsonl' },
    ]);
  });

  it.each<[string, string]>([
    ['trustdomain: a', '1:1 unknown-key trustdomain: unknown key: did you mean trustDomain?'],
    ['egress: {}', '1:1 unknown-key egress: unknown key'],
    ['trustDomain: spiffe://x', '1:14 invalid-value trustDomain: "spiffe://x" is a SPIFFE ID'],
    [
      'namespace: Hauberk_System',
      '1:12 invalid-value namespace: "Hauberk_System" is not the name of a namespace',
    ],
    [
      'issuer: { svidTtl: 24 }',
      '1:20 wrong-type issuer.svidTtl: expected a duration, as in 24h, found the number 24',
    ],
    ['issuer: { svidTtl: 1m }', '1:20 invalid-value issuer.svidTtl: expected 10m to 7d, found "1m"'],
    [
      'issuer: { caSecret: a..b }',
      '1:21 invalid-value issuer.caSecret: "a..b" is not a name that Kubernetes allows',
    ],
    ['issuer: { audience: "a b" }', '1:21 invalid-value issuer.audience: "a b" is not an audience'],
    [
      'issuer: { caSecret: hauberk-webhook-tls }',
      '1:21 conflict issuer.caSecret: issuer.caSecret and webhook.secret are the same Secret',
    ],
    ['control: { listen: off }', '1:20 conflict control.listen: a controller without it has nothing to do'],
    [
      'control: { listen: "0.0.0.0:15020" }',
      '1:20 conflict control.listen: 0.0.0.0:15020 is taken: probes.http binds 0.0.0.0:15020',
    ],
    [
      'webhook: { tls: slef }',
      '1:17 invalid-value webhook.tls: expected one of self, files, external, found "slef"; did you mean self?',
    ],
    ['webhook: { cert: a.pem }', '1:18 conflict webhook.cert: with tls: self the controller makes its own'],
    [
      'webhook: { tls: external, cert: a.pem }',
      '1:17 conflict webhook.tls: external needs webhook.key, a file such as /etc/hauberk/webhook/tls.key',
    ],
    [
      'webhook: { caBundle: "-----BEGIN CERTIFICATE-----" }',
      '1:22 conflict webhook.caBundle: with tls: self the controller writes its own CA: remove it',
    ],
    [
      'webhook: { tls: external, cert: a.pem, key: a.key, caBundle: "-----BEGIN CERTIFICATE-----" }',
      "1:62 conflict webhook.caBundle: with tls: external cert-manager's cainjector writes it: remove it",
    ],
    [
      'leader: { renew: 20s }',
      '1:18 conflict leader.renew: leader.renew (20s) is not below leader.duration (15s)',
    ],
    [
      'leader: { duration: 8s }',
      '1:21 conflict leader.duration: leader.renew (10s) is not below leader.duration (8s)',
    ],
    [
      'leader: { retry: 10s }',
      '1:18 conflict leader.retry: leader.retry (10s) is not below two fifths of leader.renew (10s)',
    ],
    [
      'kubernetes: { server: "http://x" }',
      '1:23 invalid-value kubernetes.server: "http://x" is not an HTTPS URL',
    ],
    ['injector: { image: "a b" }', '1:20 invalid-value injector.image: "a b" is not an image'],
    [
      'injector: { resources: { limits: { cpu: 2cores } } }',
      '1:41 invalid-value injector.resources.limits.cpu: "2cores" is not an amount of CPU',
    ],
    [
      'injector: { resources: { limits: { cpu: 2 } } }',
      '1:41 wrong-type injector.resources.limits.cpu: expected an amount of CPU (text), as in "1", found the number 2',
    ],
    [
      'injector: { resources: { requests: { memory: 128MB } } }',
      '1:46 invalid-value injector.resources.requests.memory: "128MB" is not an amount of memory',
    ],
    [
      'injector: { mode: transparant }',
      '1:19 invalid-value injector.mode: expected one of explicit, transparent, found "transparant"; did you mean transparent?',
    ],
    [
      'injector: { proxy: { session: { idel: 1h } } }',
      '1:39 conflict injector.proxy.session.idel: session.idel: unknown key: did you mean idle?',
    ],
    [
      'injector: { proxy: { ingress: {} } }',
      '1:31 conflict injector.proxy.ingress: the injector writes this key for each pod',
    ],
    [
      'injector: { proxy: { session: { idle: 9h } } }',
      '1:39 conflict injector.proxy.session.idle: session.idle: session.idle (9h) is more than session.absolute (8h)',
    ],
    [
      'monitoring: { adapters: [{ file: { path: a } }, { file: { path: a } }] }',
      '1:49 conflict monitoring.adapters[1]: a second adapter writes to',
    ],
  ])('%s is refused', (text, line) => {
    const [first, ...rest] = linesOf(text);
    expect(first?.slice(0, line.length)).toBe(line);
    expect(rest).toEqual([]);
  });

  it('takes variables over the file, and none of a sidecar', () => {
    expect(read('log: { level: warn }', { HAUBERK_LOG_LEVEL: 'debug' }).log.level).toBe('debug');
    expect(linesOf('', { HAUBERK_EGRESS_LISTEN: 'off' })).toEqual([
      'HAUBERK_EGRESS_LISTEN unknown-variable unknown variable: unset it',
    ]);
    // What Kubernetes makes of the Service hauberk-controller is no mistake.
    expect(
      linesOf('', {
        HAUBERK_CONTROLLER_SERVICE_HOST: '10.96.0.7',
        HAUBERK_CONTROLLER_PORT: 'tcp://10.96.0.7:15010',
      }),
    ).toEqual([]);
  });

  it('has valid examples and defaults', () => {
    const env = Object.fromEntries(
      overridableKeys(CONTROLLER_PAGE.schema)
        .filter(({ node }) => node.default !== undefined)
        .map(({ variable, node }) => [variable, String(node.default)]),
    );
    expect(Object.keys(env).length).toBeGreaterThan(25);
    // No variable sets a list or a mapping.
    for (const name of Object.keys(env)) if (name === 'HAUBERK_INJECTOR_PROXY') delete env[name];
    expect(read('{}', env)).toEqual(read('{}'));
  });

  it('is accepted by an editor where the controller accepts it, and a misspelt key is not', () => {
    const ajv = new Ajv({ allowUnionTypes: true });
    ajv.addVocabulary(['x-kind', 'x-range', 'x-unit', 'x-words', 'x-secret']);
    const validate = ajv.compile(editorSchema(CONTROLLER_PAGE));
    expect(validate({}), JSON.stringify(validate.errors)).toBe(true);
    expect(validate(parse('issuer: { svidTtl: 12h }'))).toBe(true);
    expect(validate(parse('issuer: { svidTTL: 12h }'))).toBe(false);
    expect(validate(parse('issuer: { svidTtl: 12 }'))).toBe(false);
  });

  it('is read from a file as a sidecar’s is', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'hauberk-controller-'));
    try {
      const file = join(folder, 'controller.yaml');
      await writeFile(file, 'webhook: { tls: files, cert: tls.crt, key: tls.key }\n');
      const { config, source, sha256 } = await loadControllerConfig(file, {});
      expect([source, sha256]).toEqual([file, expect.stringMatching(/^[0-9a-f]{64}$/)]);
      expect(config.webhook.tls).toMatchObject({ cert: join(folder, 'tls.crt') });
      await writeFile(file, Buffer.alloc(1_048_577, 0x20));
      await expect(loadControllerConfig(file, {})).rejects.toThrow('this is not a controller configuration');
      await expect(loadControllerConfig(join(folder, 'none.yaml'), {})).rejects.toThrow(
        'there is no such file',
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
