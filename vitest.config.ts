import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** How long `expect.poll` waits: by itself a second, which a busy machine may need. */
const PATIENCE = { poll: { timeout: 20_000 } };

// `unit` has no processes and no timers of its own; `integration` uses real sockets and real sidecar
// processes, which globalSetup builds first. The system suites (h2spec, nghttp2, Redis ...) are in
// vitest.system.config.ts, because they need tools that npm does not install.
export default defineConfig({
  test: {
    // One less than there are processors, but two at least: much of the time a test only waits.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/integration/**', 'test/system/**'],
          // Properties with hundreds of runs share busy machines.
          testTimeout: 60_000,
          expect: PATIENCE,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          globalSetup: ['test/harness/build.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          expect: PATIENCE,
        },
      },
    ],
  },
});
