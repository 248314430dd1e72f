import { stat } from 'node:fs/promises';
import type { IdentityFiles } from './load.ts';

/**
 * What the operating system says of the three files of an identity, without reading them: another text once any of them
 * was written, replaced, moved, linked elsewhere (as Kubernetes does with `..data`) or given other rights.
 */
export async function stampOf({ svid, key, bundle }: IdentityFiles): Promise<string> {
  return (await Promise.all([svid, key, bundle].map(stampOfFile))).join(' ');
}

async function stampOfFile(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs, mode, uid } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs, mode, uid].join(':');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown';
  }
}
