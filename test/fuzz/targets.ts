import type { Target } from './target.ts';

/** By name; each is loaded, with what it needs, when it is used. */
const TARGETS = {
  hpack: () => import('./targets/hpack.ts'),
  frames: () => import('./targets/frames.ts'),
  server: () => import('./targets/server.ts'),
  client: () => import('./targets/client.ts'),
  relay: () => import('./targets/relay.ts'),
  nghttp2: () => import('./targets/nghttp2.ts'),
} satisfies Record<string, () => Promise<{ target: Target }>>;

export type TargetName = keyof typeof TARGETS;

export const TARGET_NAMES = Object.keys(TARGETS) as TargetName[];

export async function loadTarget(name: TargetName): Promise<Target> {
  return (await TARGETS[name]()).target;
}
