import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { slugOf, withPackage } from '../harness/docexamples.ts';
import { blocksOf } from '../harness/docpage.ts';
import { examplePages, readPage } from '../harness/docpages.ts';

const { folder, commands } = withPackage();
const pages = examplePages().map((page) => ({ page, blocks: blocksOf(readPage(page)) }));

it('examples in TypeScript fit the types of the package, strictly', () => {
  const types = join(folder, 'types');
  let count = 0;
  for (const { page, blocks } of pages) {
    let prelude = '';
    for (const { words, text, line, language } of blocks) {
      if (language !== 'ts') continue;
      if (words.has('prelude')) prelude = text;
      const file = words.get('file') ?? (words.has('check') ? `line-${line}.ts` : undefined);
      if (file === undefined) continue;
      const path = join(types, slugOf(page), file);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, words.has('check') ? `${prelude}${text}export {};\n` : text);
      count += 1;
    }
  }
  expect(count).toBeGreaterThan(0);
  writeFileSync(
    join(types, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        target: 'es2022',
        lib: ['es2023', 'esnext.disposable'],
        module: 'nodenext',
        types: ['node'],
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: true,
        noEmit: true,
        allowImportingTsExtensions: true,
      },
    }),
  );
  const { stdout, status } = spawnSync(join(commands(), 'tsc'), ['-p', types], { encoding: 'utf8' });
  expect({ stdout, status }).toEqual({ stdout: '', status: 0 });
});
