/** The definitions of what the controller serves, loaded from proto/ by whoever serves or calls it. */
import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));

/** hauberk.control.v1.Identity. Loads the loader too, with protobufjs: some MB. */
export const loadIdentityDefinition = (): Promise<ServiceDefinition> =>
  loadService('identity.proto', 'Identity');

/** hauberk.control.v1.Discovery. */
export const loadDiscoveryDefinition = (): Promise<ServiceDefinition> =>
  loadService('discovery.proto', 'Discovery');

/** hauberk.control.v1.Exposure. */
export const loadExposureDefinition = (): Promise<ServiceDefinition> =>
  loadService('exposure.proto', 'Exposure');

async function loadService(file: string, service: string): Promise<ServiceDefinition> {
  const { load } = await import('@grpc/proto-loader');
  const all = await load(`hauberk/control/v1/${file}`, {
    includeDirs: [PROTO],
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  return all[`hauberk.control.v1.${service}`] as ServiceDefinition;
}
