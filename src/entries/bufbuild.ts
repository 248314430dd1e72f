/**
 * Services that `@bufbuild/protobuf` has generated, for grpc-js. The only part that needs that package.
 *
 * @module hauberk/bufbuild
 */

export { type BufbuildMethod, type BufbuildService, serviceDefinition } from '../mesh/bufbuild.ts';
