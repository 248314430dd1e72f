import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { framed, LOADS, pathOf } from './load.ts';
import { freePorts } from './port.ts';
import type { Processes } from './proc.ts';

/**
 * nghttpd as the app behind every pair: answers a POST with the file of its `:path`, content-type
 * application/grpc, and `grpc-status: 0` in the trailers. It costs about 1 us of CPU a call. Returns its port.
 */
export async function startBackend(nghttpd: string, folder: string, processes: Processes): Promise<number> {
  const root = join(folder, 'answers');
  for (const load of LOADS) {
    const file = join(root, pathOf(load));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, framed(load.answer));
  }
  const mimeTypes = join(folder, 'mime.types');
  writeFileSync(mimeTypes, 'application/grpc grpc\n');

  const [port] = await freePorts(1);
  const args = [
    ...['--no-tls', '--address=127.0.0.1', `--htdocs=${root}`, `--mime-types-file=${mimeTypes}`],
    ...['--trailer=grpc-status: 0', '--no-content-length', '--max-concurrent-streams=10000'],
    ...['--window-bits=24', '--connection-window-bits=28', String(port)],
  ];
  await processes.start('nghttpd', nghttpd, args, port);
  return port;
}
