/** A SecureMeshServer in the test's process, and a real sidecar process through which its callers come. */
import type { CallContext } from '../../src/mesh/callcontext.ts';
import type { SecureMeshOptions } from '../../src/mesh/options.ts';
import { SecureMeshServer } from '../../src/mesh/securemeshserver.ts';
import { envelopeMethod } from './envelope-methods.ts';
import type { CallOptions, ClientOptions, TestClient } from './greeter-client.ts';
import { atEnd, type SidecarProcess, World } from './sidecars.ts';

export const SERVICE = 'greeter';

export interface MeshScene {
  readonly world: World;
  readonly server: SecureMeshServer;
  readonly port: number;
  /** What handlers did that their callers were not told. */
  readonly errors: Array<{ error: unknown; context: CallContext }>;
  /** A sidecar process with a route to the server, called NAME. */
  caller(name: string): Promise<Caller>;
}

export interface Caller {
  readonly sidecar: SidecarProcess;
  readonly client: TestClient;
  newClient(options?: ClientOptions): TestClient;
  /** A unary call of a method of the server. */
  call(method: string, request?: unknown, options?: CallOptions): ReturnType<TestClient['unary']>;
}

/** Starts a server, of which `prepare` knows the handlers. */
export async function meshScene(
  prepare: (server: SecureMeshServer) => void,
  options: Partial<SecureMeshOptions> = {},
): Promise<MeshScene> {
  const world = await World.make();
  await world.trust.issue(SERVICE);
  const server = new SecureMeshServer({
    serviceId: SERVICE,
    keys: world.trust.dir,
    host: '127.0.0.1',
    log: 'silent',
    ...options,
  });
  const errors: MeshScene['errors'] = [];
  server.onError = (error, context) => void errors.push({ error, context });
  prepare(server);
  const port = await server.start();
  atEnd(() => server.cleanup(0));
  return { world, server, port, errors, caller: (name) => connect(world, name, port) };
}

/** Starts a sidecar process with a route to the mesh at a port; resolves once calls get there. */
export async function connect(world: World, name: string, port: number): Promise<Caller> {
  const sidecar = await world.sidecar(name, {
    egress: {
      routes: [{ service: SERVICE, endpoints: [`127.0.0.1:${port}`], peer: world.spiffeId(SERVICE) }],
    },
  });
  const newClient = (more: ClientOptions = {}): TestClient =>
    world.client(sidecar.egress, { authority: SERVICE, ...more });
  const client = newClient();
  const caller: Caller = {
    sidecar,
    client,
    newClient,
    call: (method, request = null, more = {}) => client.unary(envelopeMethod(SERVICE, method), request, more),
  };
  await connected(caller);
  return caller;
}

/** Resolves once calls get there: a machine that is busy with other tests may have the server refuse the first handshakes. */
export async function connected(caller: Caller): Promise<void> {
  for (;;) {
    const { code, hauberkError } = await caller.call('nothing-of-that-name');
    if (code !== 14 || hauberkError === 'no-app') return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
