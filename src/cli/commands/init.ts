import { print } from '../terminal.ts';

export interface InitArguments {
  trustDomain: string;
  dir: string;
  /** In ms. */
  ttl?: number;
}

/** `hauberk init` */
export async function init({ trustDomain, dir, ttl }: InitArguments): Promise<void> {
  const { initTrustDomain } = await import('../../identity/authority.ts');
  const lifetime = ttl === undefined ? {} : { ttlMs: ttl };
  const made = await initTrustDomain({ dir, trustDomain, ...lifetime });
  print(`trust domain ${made.trustDomain}, until ${new Date(made.notAfter).toISOString()}`);
  print(`  ${made.bundle}  every sidecar needs it; it is not secret`);
  print(`  ${made.caKey}  whoever has it can be any service: keep it off the machines that run them`);
  print(`next: hauberk issue NAME${dir === 'keys' ? '' : ` --dir ${dir}`}`);
}
