import { print } from '../terminal.ts';

export interface IssueArguments {
  dir: string;
  /** In ms. */
  ttl?: number;
  keyType: 'p256' | 'ed25519';
}

/** `hauberk issue` */
export async function issue(name: string, { dir, ttl, keyType }: IssueArguments): Promise<void> {
  const { issueSvid } = await import('../../identity/authority.ts');
  const lifetime = ttl === undefined ? {} : { ttlMs: ttl };
  const made = await issueSvid({ dir, name, leafKey: keyType, ...lifetime });
  print(`${made.spiffeId}, until ${new Date(made.notAfter).toISOString()}`);
  print("in its sidecar's configuration, which counts paths from its own folder:");
  print(`  identity: { svid: ${made.svid}, key: ${made.key}, bundle: ${made.bundle} }`);
}
