/** The injector's webhook in this process, as the chart's service account, behind the Service of the chart. */

import type { AuditEvent } from '../../src/audit/event.ts';
import { Recorder } from '../../src/audit/recorder.ts';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import { CONTROLLER_FORM } from '../../src/config/controllerform.ts';
import { parseForm } from '../../src/config/parse.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import type { InjectorSettings } from '../../src/kube/injector/settings.ts';
import { Webhook } from '../../src/kube/webhook/webhook.ts';
import { injectorSettings } from '../../src/kube/webhook/webhooksettings.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import type { Kubernetes } from './kubernetes.ts';
import { atEnd } from './sidecars.ts';
import { makeTrust } from './trust.ts';

const NAMESPACE = 'hauberk-system';
const NAME = 'hauberk-controller';

export interface Injector {
  readonly settings: InjectorSettings;
  readonly events: readonly AuditEvent[];
  stop(): void;
}

/** Resolves once API servers know it. It ends with the test file. `clock` is the webhook's. */
export async function startInjector(cluster: Kubernetes, clock: Clock = systemClock): Promise<Injector> {
  const { body } = await cluster.request('GET', `/api/v1/namespaces/${NAMESPACE}/configmaps/${NAME}`);
  const text: string = body.data['controller.yaml'];
  const config = parseForm(CONTROLLER_FORM, text.replace(':15017', `${cluster.network.outside}:0`), {
    file: 'controller.yaml',
  });
  const client = openKubeClient({
    access: await cluster.accessOf(await cluster.token(NAMESPACE, NAME)),
    clock: systemClock,
  });
  const trust = await makeTrust({ trustDomain: config.trustDomain });
  const settings = injectorSettings(config, {
    namespace: NAMESPACE,
    version: '0.0.0-test',
    bundlePem: pem(trust.ca),
    serverKnowsNative: true,
  });
  const events: AuditEvent[] = [];
  const webhook = new Webhook({
    config,
    namespace: NAMESPACE,
    version: settings.version,
    client,
    clock,
    log: silentLogger,
    recorder: new Recorder({
      clock: systemClock,
      source: { instance: 'test', spiffeId: settings.controllerPeer },
      adapters: [{ name: 'list', write: (batch) => void events.push(...batch) }],
    }),
    metrics: new Metrics({ version: settings.version }),
    bundlePem: () => settings.bundlePem,
    isLeader: () => true,
    onSkipped: (error) => {
      throw error;
    },
  });
  const stop = (): void => {
    webhook.stop();
    client.close();
  };
  atEnd(stop);
  await webhook.open();
  const port = Number(webhook.bound[0]?.split(':').at(-1));
  await cluster.apply(
    cluster.endpointSlice(NAMESPACE, NAME, [cluster.network.outside], { control: 15010, webhook: port }),
  );
  await cluster.webhooksKnown('hauberk-injector');
  return { settings, events, stop };
}

function pem(der: Buffer): string {
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replaceAll(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}
