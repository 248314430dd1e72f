/** Which sidecar a command is for: the options that all commands of the admin API have. */

import { resolve } from 'node:path';
import { readAdminToken } from '../../admin/admintoken.ts';
import { formatAddress, isLoopback, parseAppAddress } from '../../config/address.ts';
import type { ListenAddress } from '../../config/config.ts';
import { ValueError } from '../../config/errors.ts';
import { loadConfig } from '../../config/load.ts';
import { DEFAULT_ADDRESS } from './defaultaddress.ts';
import { AdminCallError } from './errors.ts';

/** As commander hands them over. */
export interface TargetOptions {
  readonly address?: string;
  readonly config?: string;
  readonly token?: string;
  readonly timeout: number;
}

export interface AdminTarget {
  readonly address: ListenAddress;
  readonly token: string | undefined;
  readonly timeoutMs: number;
}

/** Throws AdminCallError, ConfigError or IdentityError. */
export async function adminTarget(options: TargetOptions): Promise<AdminTarget> {
  const { address, tokenFile } = await addressOf(options);
  // Never to another machine: the token would go there in plaintext.
  if (!isLoopback(address)) {
    throw new AdminCallError(
      `${formatAddress(address)} is not on this machine: the admin API listens on Unix sockets and loopback only`,
    );
  }
  const token =
    tokenFile === undefined || address.kind === 'unix' ? undefined : await readAdminToken(tokenFile);
  return { address, token, timeoutMs: options.timeout };
}

async function addressOf(
  options: TargetOptions,
): Promise<{ address: ListenAddress; tokenFile: string | undefined }> {
  const given = options.address === undefined ? undefined : parse(options.address);
  if (options.config === undefined) {
    return { address: given ?? parse(DEFAULT_ADDRESS), tokenFile: options.token };
  }
  const { admin } = await loadConfig(resolve(options.config));
  const tokenFile = options.token ?? admin.token;
  if (given !== undefined) return { address: given, tokenFile };
  const [first] = admin.listen;
  if (first === undefined) {
    throw new AdminCallError(
      `${options.config} has no admin.listen: add \`admin: { listen: ${DEFAULT_ADDRESS} }\` and restart the sidecar`,
    );
  }
  if (first.kind === 'tcp' && first.port === 0) {
    throw new AdminCallError(
      `${options.config} lets the system choose the port: give --address as the ready line names it under \`admin\``,
    );
  }
  return { address: first, tokenFile };
}

function parse(text: string): ListenAddress {
  try {
    return parseAppAddress(text, (path) => resolve(path));
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw new AdminCallError(`--address ${JSON.stringify(text)} ${error.message}`);
  }
}
