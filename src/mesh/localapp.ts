import type { Server } from '@grpc/grpc-js';
import { memoryWires } from '../relay/memorywire.ts';
import type { LocalApp } from '../sidecar/options.ts';
import { MeshError } from './errors.ts';
import { WireStream } from './wirestream.ts';

/** A grpc-js server of this process as an app of its sidecar: its connections are memory, and end with the sidecar. */
export async function localApp(server: Server): Promise<LocalApp> {
  const { ServerCredentials } = await import('@grpc/grpc-js');
  const credentials = ServerCredentials.createInsecure();
  let injector: ReturnType<Server['createConnectionInjector']>;
  try {
    injector = server.createConnectionInjector(credentials);
  } catch (cause) {
    throw new MeshError(
      'bad-option',
      "serve() was given a server of another copy of @grpc/grpc-js than Hauberk's own: let both use one (`npm ls @grpc/grpc-js` shows them), version 1.14 or later",
      { cause },
    );
  }
  return () => {
    const [ours, theirs] = memoryWires();
    injector.injectConnection(new WireStream(theirs));
    return ours;
  };
}
