import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import type { MethodDefinition } from '@grpc/grpc-js';

/** A message of grpc-js's side: what is sent may leave out fields, as `create` takes it; what came is whole. */
type Sent<Schema extends DescMessage> = MessageShape<Schema> | MessageInitShape<Schema>;

/** A method as grpc-js has it. */
export interface BufbuildMethod<Input extends DescMessage, Output extends DescMessage>
  extends MethodDefinition<MessageShape<Input>, MessageShape<Output>> {
  /** Takes a message, or what `create` makes one of. */
  readonly requestSerialize: (message: Sent<Input>) => Buffer;
  /** Takes a message, or what `create` makes one of. */
  readonly responseSerialize: (message: Sent<Output>) => Buffer;
}

/** The methods of a service, by the names that `@bufbuild/protobuf` gives them: `sayHello`. */
export type BufbuildService<Service extends DescService> = {
  readonly [Name in keyof Service['method']]: BufbuildMethod<
    Service['method'][Name]['input'],
    Service['method'][Name]['output']
  >;
};

/**
 * A service that protoc-gen-es has generated, as grpc-js knows services: for `server.addService`, and for
 * `makeGenericClientConstructor`. Messages go through `@bufbuild/protobuf`.
 */
export function serviceDefinition<Service extends DescService>(service: Service): BufbuildService<Service> {
  return Object.fromEntries(
    service.methods.map((method) => [method.localName, methodDefinition(service, method)]),
  ) as unknown as BufbuildService<Service>;
}

function methodDefinition(
  { typeName }: DescService,
  { name, methodKind, input, output }: DescMethod,
): BufbuildMethod<DescMessage, DescMessage> {
  return {
    path: `/${typeName}/${name}`,
    originalName: name,
    requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
    responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
    requestSerialize: serializer(input),
    requestDeserialize: (octets) => fromBinary(input, octets),
    responseSerialize: serializer(output),
    responseDeserialize: (octets) => fromBinary(output, octets),
  };
}

function serializer(schema: DescMessage): (message: Sent<DescMessage>) => Buffer {
  return (message) => {
    const { buffer, byteOffset, length } = toBinary(schema, create(schema, message));
    return Buffer.from(buffer, byteOffset, length);
  };
}
