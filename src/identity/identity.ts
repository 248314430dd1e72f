/** The two objects that a connection is made from; the rest of the folder is in chain.ts's reading order. */
export type { LocalIdentity } from './local.ts';
export type { TrustBundle } from './trustbundle.ts';
