import type { Target } from './target.ts';

/** By name; each is loaded, with what it needs, when it is used. */
const TARGETS = {
  hpack: () => import('./targets/hpack.ts'),
  frames: () => import('./targets/frames.ts'),
  server: () => import('./targets/server.ts'),
  client: () => import('./targets/client.ts'),
  relay: () => import('./targets/relay.ts'),
  nghttp2: () => import('./targets/nghttp2.ts'),
  records: () => import('./targets/records.ts'),
  'record-plaintext': () => import('./targets/record-plaintext.ts'),
  handshake: () => import('./targets/handshake.ts'),
  hello: () => import('./targets/hello.ts'),
  'identity-payload': () => import('./targets/identity-payload.ts'),
  certificate: () => import('./targets/certificate.ts'),
  text: () => import('./targets/text.ts'),
  config: () => import('./targets/config.ts'),
} satisfies Record<string, () => Promise<{ target: Target }>>;

export type TargetName = keyof typeof TARGETS;

export const TARGET_NAMES = Object.keys(TARGETS) as TargetName[];

export async function loadTarget(name: TargetName): Promise<Target> {
  return (await TARGETS[name]()).target;
}
