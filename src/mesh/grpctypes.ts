/** grpc-js's own types of what a channel is made of; it exports only the channel's. */
import type { ChannelInterface } from '@grpc/grpc-js';

export type GrpcCall = ReturnType<ChannelInterface['createCall']>;
export type CallListener = Parameters<GrpcCall['start']>[1];
export type MessageContext = Parameters<GrpcCall['sendMessageWithContext']>[0];
export type CallCredentials = Parameters<GrpcCall['setCredentials']>[0];
export type AuthContext = ReturnType<GrpcCall['getAuthContext']>;
export type ParentCall = Parameters<ChannelInterface['createCall']>[3];
export type Deadline = Parameters<ChannelInterface['createCall']>[1];
/** grpc-js itself, loaded when a mesh starts and not before. */
export type Grpc = typeof import('@grpc/grpc-js');
