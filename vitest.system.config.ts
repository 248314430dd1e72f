import { defineConfig } from 'vitest/config';

// Suites that drive real peers (nghttp2, Redis ...). A missing tool fails them; nothing is skipped.
export default defineConfig({
  test: {
    name: 'system',
    include: ['test/system/**/*.test.ts'],
    globalSetup: ['test/harness/build.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
