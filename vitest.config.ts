import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** How long `expect.poll` waits: by itself a second, which a busy machine may need. */
const PATIENCE = { poll: { timeout: 20_000 } };

/** Tests of what is one for the whole process: a module as it is before its first use, or with another in its place. */
const ALONE = ['test/crypto/loading.test.ts', 'test/crypto/sealing.test.ts'];

const UNIT = {
  // Properties with hundreds of runs share busy machines.
  testTimeout: 60_000,
  expect: PATIENCE,
};

// `unit` has no processes and no timers of its own; `integration` uses real sockets and real sidecar
// processes, which globalSetup builds first. The system suites (h2spec, nghttp2, Redis, what takes long ...) are in
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
          exclude: ['test/integration/**', 'test/system/**', ...ALONE],
          // A process for each of 230 files, each with the whole program to load, takes longer than what most test.
          isolate: false,
          ...UNIT,
        },
      },
      { test: { name: 'unit-alone', include: ALONE, ...UNIT } },
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
