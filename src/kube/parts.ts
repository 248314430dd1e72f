import { discoveryPart } from './discovery/discoverypart.ts';
import { exposurePart } from './exposure/exposurepart.ts';
import type { MakePart } from './part.ts';
import { Webhook } from './webhook/webhook.ts';

const webhook: MakePart = async (context) => {
  const { config, ca, skipped: onSkipped } = context;
  const part = new Webhook({ ...context, bundlePem: () => ca().bundlePem, onSkipped });
  return {
    open: async () => {
      if (config.webhook.listen.length === 0) return {};
      return (await part.open()) ? { webhook: part.bound } : undefined;
    },
    drain: (deadlineMs) => part.drain(deadlineMs),
    close: async () => part.stop(),
  };
};

/** What a controller does besides issuing identities. */
export const PARTS: readonly MakePart[] = [webhook, discoveryPart, exposurePart];
