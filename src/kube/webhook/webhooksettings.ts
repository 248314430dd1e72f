import type { ControllerConfig } from '../../config/controllerconfig.ts';
import type { InjectorSettings } from '../injector/settings.ts';

const IMAGE = 'ghcr.io/hauberk-mesh/hauberk';
const CAPTURE_IMAGE = `${IMAGE}-capture`;

/** What the injector must know besides the configuration. */
export interface Surroundings {
  readonly namespace: string;
  readonly version: string;
  readonly bundlePem: string;
  readonly serverKnowsNative: boolean;
}

/** The injector's settings as the controller's configuration gives them. */
export function injectorSettings(config: ControllerConfig, around: Surroundings): InjectorSettings {
  const { injector, trustDomain, serviceName, issuer } = config;
  const { namespace, version } = around;
  return {
    ...around,
    trustDomain,
    controllerAddress: `${serviceName}.${namespace}.svc:${controlPort(config)}`,
    controllerPeer: `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceName}`,
    audience: issuer.audience,
    image: injector.image ?? `${IMAGE}:${version}`,
    captureImage: injector.captureImage ?? `${CAPTURE_IMAGE}:${version}`,
    pullPolicy: injector.pullPolicy,
    uid: injector.uid,
    mode: injector.mode,
    native: injector.native,
    logLevel: injector.logLevel,
    resources: injector.resources,
    excludedNamespaces: injector.excludedNamespaces,
    policy: injector.policy,
    proxy: injector.proxy,
  };
}

const CONTROL_PORT = 15_010;

/** The port of the controller's Service, which is that of its listener. */
function controlPort({ control }: ControllerConfig): number {
  const [address] = control.listen;
  return address?.kind === 'tcp' && address.port !== 0 ? address.port : CONTROL_PORT;
}
