import type { ControllerConfig } from '../config/config.ts';
import { IdentityError } from '../identity/errors.ts';
import { type IdentityFiles, loadBundle } from '../identity/load.ts';
import { TrustBundle } from '../identity/trustbundle.ts';

/**
 * Has `ask` talk to the controller while this sidecar has no identity: under the bundle that was stored here last, or
 * else under the configured one. If who answers is not the controller by the stored one, `controller.bundle` is tried,
 * too, for an operator changes that file. `controller.bundlePem` is not: a pod's is of the time when the pod was made,
 * and a CA may have been taken back since. Rejects as `ask` does, or with IdentityError of the files;
 * `controller-untrusted` names what was tried.
 */
export async function askUnderFirstBundle(
  files: IdentityFiles,
  { bundle }: Pick<ControllerConfig, 'bundle'>,
  ask: (bundle: TrustBundle) => Promise<void>,
): Promise<void> {
  const stored = await storedBundle(files);
  const last = `${files.bundle} (stored here last)`;
  if ('pem' in bundle) {
    if (stored !== undefined) {
      const cure = `put that into controller.bundlePem and delete ${files.bundle}, or start the pod anew`;
      await asking(() => ask(stored), last, cure);
    } else {
      const configured = fromPem(bundle.pem, files.trustDomain);
      const cure = 'put that there, or start the pod anew';
      await asking(() => ask(configured), 'controller.bundlePem', cure);
    }
    return;
  }
  const configured = `${bundle.file} (controller.bundle)`;
  const cure = `put that into ${bundle.file}`;
  const load = (): Promise<TrustBundle> =>
    loadBundle({ bundle: bundle.file, trustDomain: files.trustDomain });
  if (stored === undefined) {
    const only = await load();
    await asking(() => ask(only), configured, cure);
    return;
  }
  const both = async (): Promise<void> => {
    try {
      await ask(stored);
    } catch (error) {
      if (!isUntrusted(error)) throw error;
      const newer = await load().catch((unread) => {
        throw new IdentityError(error.code, `${error.what}; and ${unread.message}`, { cause: error });
      });
      if (newer.trustsAs(stored)) throw error;
      await ask(newer);
    }
  };
  await asking(both, `${last} and ${configured}`, cure);
}

/** What is stored and cannot be used is as good as none. */
async function storedBundle(files: IdentityFiles): Promise<TrustBundle | undefined> {
  try {
    return await loadBundle(files);
  } catch (error) {
    if (error instanceof IdentityError) return undefined;
    throw error;
  }
}

function fromPem(pem: string, trustDomain: string): TrustBundle {
  try {
    return TrustBundle.fromPem(pem, trustDomain);
  } catch (error) {
    throw error instanceof IdentityError ? error.inFile('controller.bundlePem') : error;
  }
}

const isUntrusted = (error: unknown): error is IdentityError =>
  error instanceof IdentityError && error.code === 'controller-untrusted';

async function asking(ask: () => Promise<void>, tried: string, cure: string): Promise<void> {
  try {
    await ask();
  } catch (error) {
    if (!isUntrusted(error)) throw error;
    throw new IdentityError(error.code, error.what, {
      cure: `whom to trust was read from ${tried}; if the controller has another CA now, ${cure}`,
      cause: error,
    });
  }
}
