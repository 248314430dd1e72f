/** Methods without a schema, as a client that only has grpc-js and the Envelope calls them. */
import type * as grpc from '@grpc/grpc-js';
import { decodeEnvelope, encodeEnvelope } from '../../src/mesh/envelope.ts';

/** What stands for null in answers: grpc-js takes a message that is null for the end of its stream. */
export const NULL = 'null';

/** A method of a service for TestClient. A request that is a Raw goes out as it is. */
export function envelopeMethod<Req = unknown, Res = unknown>(
  service: string,
  method: string,
): grpc.MethodDefinition<Req, Res> {
  return {
    path: `/${service}/${method}`,
    // TestClient chooses by what is called.
    requestStream: false,
    responseStream: false,
    requestSerialize: (value) => (value instanceof Raw ? value.octets : encodeEnvelope(value)),
    requestDeserialize: (octets) => decodeEnvelope(octets) as Req,
    responseSerialize: encodeEnvelope,
    responseDeserialize: (octets) => (decodeEnvelope(octets) ?? NULL) as Res,
  };
}

/** A request's octets, of whatever kind. */
export class Raw {
  readonly octets: Buffer;

  constructor(octets: Buffer) {
    this.octets = octets;
  }
}
