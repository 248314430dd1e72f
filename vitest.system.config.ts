import { defineConfig } from 'vitest/config';

// Suites that drive real peers (nghttp2, Redis ...), and those that take long. A missing tool fails them; nothing is skipped.
export default defineConfig({
  test: {
    name: 'system',
    include: ['test/system/**/*.test.ts'],
    globalSetup: ['test/harness/build.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // A second, the default, is nothing on a busy machine.
    expect: { poll: { timeout: 30_000 } },
    fileParallelism: false,
  },
});
