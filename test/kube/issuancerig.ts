// An issuer against the stub of the API server.
import type { AuditEvent } from '../../src/audit/event.ts';
import { Recorder } from '../../src/audit/recorder.ts';
import type { Clock } from '../../src/clock/clock.ts';
import type { ControllerConfig } from '../../src/config/controllerconfig.ts';
import { CONTROLLER_FORM } from '../../src/config/controllerform.ts';
import { parseForm } from '../../src/config/parse.ts';
import type { CertifyRequest } from '../../src/control/messages.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { objectPath, SECRETS } from '../../src/kube/client/resource.ts';
import { Issuance } from '../../src/kube/issuer/issuance.ts';
import type { KubeSecret } from '../../src/kube/objects.ts';
import { TokenReviewer } from '../../src/kube/tokenreview.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { Collector } from '../audit/collector.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import type { KubeApi } from '../harness/kubeapi.ts';
import { makeCsr, makePair } from '../identity/csrs.ts';

export const NAMESPACE = 'hauberk-system';
export const CONTROLLER = `spiffe://cluster.local/ns/${NAMESPACE}/sa/hauberk-controller`;
export const CA_PATH = objectPath(SECRETS, 'hauberk-ca', NAMESPACE);
export const POD = { name: 'web-1', uid: '11111111-1111-4111-8111-111111111111' };

export const configOf = (text = '{}'): ControllerConfig =>
  parseForm(CONTROLLER_FORM, text, { file: '/etc/hauberk/controller.yaml' });

/** One replica's issuer. */
export interface Replica {
  readonly issuance: Issuance;
  readonly client: KubeClient;
  readonly metrics: Metrics;
  /** What is in the audit now, without what every event has. */
  events(): Promise<Array<{ readonly type: AuditEvent['type'] } & Readonly<Record<string, unknown>>>>;
  end(): Promise<void>;
}

/** Of today, so that the certificates that other tests make fit. */
export const fakeNow = (): FakeClock => new FakeClock(Date.now());

export function makeReplica(api: KubeApi, clock: Clock, text?: string): Replica {
  const config = configOf(text);
  const collector = new Collector('collector');
  const recorder = new Recorder({
    clock,
    source: { instance: 'run-1', spiffeId: CONTROLLER },
    adapters: [collector],
  });
  const client = openKubeClient({ access: api.access, clock });
  const metrics = new Metrics({ version: '0.0.0' });
  const log = silentLogger;
  const issuance = new Issuance({
    config,
    namespace: NAMESPACE,
    spiffeId: CONTROLLER,
    client,
    tokens: new TokenReviewer({
      client,
      clock,
      audience: config.issuer.audience,
      log,
      bounds: config.issuer,
    }),
    clock,
    recorder,
    metrics,
    log,
  });
  return {
    issuance,
    client,
    metrics,
    events: async () => {
      await recorder.flush();
      return collector.events.map(({ time, seq, sidecar, instance, ...rest }) => rest);
    },
    end: async () => {
      issuance.close();
      client.close();
    },
  };
}

export function secretOf(certificates: string, key: string): KubeSecret {
  const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
  return {
    metadata: { name: 'hauberk-ca', namespace: NAMESPACE },
    data: { 'ca.crt': base64(certificates), 'ca.key': base64(key) },
  };
}

/** A request with a new key. */
export const requestWith = (token: string): CertifyRequest => ({
  csr: makeCsr({ pair: makePair() }),
  proof: 'serviceAccountToken',
  serviceAccountToken: token,
});
