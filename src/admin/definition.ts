/** The definition of the admin API, loaded from proto/ by whoever serves or calls it. */
import { fileURLToPath } from 'node:url';
import type { PackageDefinition, ServiceDefinition } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));
const FILE = 'hauberk/admin/v1/admin.proto';
const SERVICE = 'hauberk.admin.v1.Admin';

/** Loads the loader too, with protobufjs: some MB, which nobody needs who never uses the admin API. */
export async function loadAdminDefinition(): Promise<{ all: PackageDefinition; service: ServiceDefinition }> {
  const { load } = await import('@grpc/proto-loader');
  const all = await load(FILE, {
    includeDirs: [PROTO],
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  return { all, service: all[SERVICE] as ServiceDefinition };
}
