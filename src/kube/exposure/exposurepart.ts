import { hostname } from 'node:os';
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { loadExposureDefinition } from '../../control/definition.ts';
import { EventRecorder } from '../eventrecorder.ts';
import type { ControllerContext, ControllerPart } from '../part.ts';
import { ExposureServer } from './exposureserver.ts';

/** Events at pods whose apps answer in plaintext; every replica records what it is told. */
export async function exposurePart(context: ControllerContext): Promise<ControllerPart> {
  const { client, clock, log, tokens, recorder } = context;
  const [grpc, definition] = await Promise.all([import('@grpc/grpc-js'), loadExposureDefinition()]);
  // Of its own, so that no number of pods keeps the controller from telling of itself.
  const events = new EventRecorder({ client, clock, log, instance: hostname() });
  const server = new ExposureServer({ tokens, events, clock, recorder, log, grpc });
  return {
    services: [
      {
        definition: definition as ServiceDefinition,
        handlers: server.handlers as UntypedServiceImplementation,
      },
    ],
    close: () => events.stop(),
  };
}
