// A thread of `npm run fuzz`, with the hooks that make src/ tell what it runs.
import { register } from 'node:module';

globalThis.__fuzzCounters = new Uint8Array(65_536);
globalThis.__fuzzFiles = [];
globalThis.__fuzzRegister = (file, count) => {
  const files = globalThis.__fuzzFiles;
  const last = files.at(-1);
  const from = last === undefined ? 0 : last.from + last.count;
  files.push({ file, from, count });
  return globalThis.__fuzzCounters.subarray(from, from + count);
};
register('./fuzz-hooks.mjs', import.meta.url);
await import('../test/fuzz/worker.ts');
