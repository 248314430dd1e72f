import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { installPackage } from './docpackage.ts';
import { blocksOf, treatmentOf } from './docpage.ts';
import { examplePages, filesOf, readPage } from './docpages.ts';
import { PageRun, portsOf, takenPorts } from './docrunner.ts';

/** For a minute the system keeps the port of a connection that is over, and clients of earlier tests may have had any. */
const PORTS_MS = 90_000;

/** A folder of a test file's own in which the package is installed, and the folder of its commands. */
export function withPackage(): { readonly folder: string; readonly commands: () => string } {
  const folder = mkdtempSync(join(tmpdir(), 'docs-'));
  let commands = '';
  beforeAll(() => {
    commands = installPackage(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return { folder, commands: () => commands };
}

/** A page's folder; short, for the path of a Unix socket has 107 octets at most. */
export const slugOf = (page: string): string => page.replace(/^docs\/|\.md$/g, '').replaceAll('/', '-');

/** A test for each of the pages that has something to run: it does what it says. */
export function playPages(which: (page: string) => boolean): void {
  const { folder, commands } = withPackage();
  const played = examplePages()
    .filter(which)
    .map((page) => ({ page, blocks: blocksOf(readPage(page)) }))
    .filter(({ blocks }) => blocks.some((block) => treatmentOf(block) === 'run'));
  it.each(played)(
    'what $page tells to run does what it says',
    { timeout: 240_000 },
    async ({ page, blocks }) => {
      await expect
        .poll(() => takenPorts(portsOf(blocks)), {
          timeout: PORTS_MS,
          interval: 500,
          message: 'ports that the page uses, and another program has',
        })
        .toEqual([]);
      const run = new PageRun(join(folder, slugOf(page)), commands());
      const files = filesOf(page);
      if (files !== undefined) cpSync(files, join(folder, slugOf(page)), { recursive: true });
      try {
        for (const block of blocks) await run.play(block);
      } finally {
        await run.end();
      }
    },
  );
}
