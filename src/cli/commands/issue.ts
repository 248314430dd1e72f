import { print } from '../terminal.ts';
import { optionalDuration } from './duration.ts';

export interface IssueArguments {
  dir: string;
  ttl?: string;
  keyType: 'p256' | 'ed25519';
}

/** `hauberk issue` */
export async function issue(name: string, { dir, ttl, keyType }: IssueArguments): Promise<void> {
  const { issueSvid } = await import('../../identity/authority.ts');
  const made = await issueSvid({ dir, name, leafKey: keyType, ...optionalDuration(ttl) });
  print(`${made.spiffeId}, until ${new Date(made.notAfter).toISOString()}`);
  print(`  identity: { svid: ${made.svid}, key: ${made.key}, bundle: ${made.bundle} }`);
}
