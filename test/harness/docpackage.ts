import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Makes `folder/node_modules` as `npm install` of the packed checkout would: hauberk's files are those that npm would
 * publish, everything else is a link to what is installed here. Needs dist/; returns the folder of the commands.
 */
export function installPackage(folder: string): string {
  const modules = join(folder, 'node_modules');
  mkdirSync(join(modules, 'hauberk'), { recursive: true });
  const packed = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }];
  execFileSync('tar', [
    '-xzf',
    join(folder, filename),
    '-C',
    join(modules, 'hauberk'),
    '--strip-components=1',
  ]);

  const installed = realpathSync(join(ROOT, 'node_modules'));
  for (const name of readdirSync(installed)) {
    if (!name.startsWith('.') && name !== 'hauberk') symlinkSync(join(installed, name), join(modules, name));
  }
  const commands = join(modules, '.bin');
  mkdirSync(commands);
  for (const name of readdirSync(join(installed, '.bin'))) {
    symlinkSync(realpathSync(join(installed, '.bin', name)), join(commands, name));
  }
  const main = join(modules, 'hauberk', 'dist', 'cli', 'main.js');
  chmodSync(main, 0o755);
  symlinkSync(main, join(commands, 'hauberk'));
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  return commands;
}
