import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IdentityError } from '../../src/identity/errors.ts';
import { toPem } from '../../src/identity/pem.ts';
import type { TrustBundle } from '../../src/identity/trustbundle.ts';
import { askUnderFirstBundle } from '../../src/sidecar/firstbundle.ts';
import { type Forged, forgeCa } from '../identity/forge.ts';

const pem = ({ der }: Forged): string => toPem('CERTIFICATE', der);

let folder: string;
let cas: Record<string, Forged>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-first-'));
  cas = { old: await forgeCa({ name: 'CN=Old' }), new: await forgeCa({ name: 'CN=New' }) };
});
afterAll(() => rm(folder, { recursive: true }));

/** What was asked under, in order, and how it ended, where the controller has a certificate of `controller`. */
async function first({ stored, file, text, controller, fails = 'controller-untrusted' }: Row) {
  const at = (name: string): string => join(folder, name);
  const ca = (name: string): Forged => cas[name] as Forged;
  for (const [path, name] of [
    ['stored.pem', stored],
    ['configured.pem', file],
  ] as const) {
    await rm(at(path), { force: true });
    if (name !== undefined) await writeFile(at(path), name === 'rubbish' ? name : pem(ca(name)));
  }
  const asked: string[] = [];
  const ask = async (bundle: TrustBundle): Promise<void> => {
    const name = ['old', 'new'].find((each) => bundle.certificates[0]?.equals(ca(each).der)) ?? '?';
    asked.push(name);
    if (name !== controller) throw new IdentityError(fails, 'it is somebody else');
  };
  const files = {
    svid: at('svid.pem'),
    key: at('svid.key'),
    bundle: at('stored.pem'),
    trustDomain: 'shop.example',
  };
  const bundle = text === undefined ? { file: at('configured.pem') } : { pem: pem(ca(text)) };
  const error = await askUnderFirstBundle(files, { bundle }, ask).then(
    () => undefined,
    (thrown: IdentityError) => thrown,
  );
  return { asked, code: error?.code, message: error?.message.replaceAll(`${folder}/`, '') };
}

interface Row {
  readonly stored?: 'old' | 'new' | 'rubbish';
  readonly file?: 'old' | 'new';
  readonly text?: 'old' | 'new';
  readonly controller: 'old' | 'new' | 'nobody';
  readonly fails?: 'controller-untrusted' | 'controller-unreachable';
}

describe('the first identity is asked for', () => {
  it.each<[claim: string, row: Row, asked: string[]]>([
    ['under the configured file where nothing is stored', { file: 'new', controller: 'new' }, ['new']],
    ['under the configured text where nothing is stored', { text: 'new', controller: 'new' }, ['new']],
    [
      'under the stored bundle first, which may be newer',
      { stored: 'new', file: 'old', controller: 'new' },
      ['new'],
    ],
    [
      'under a configured file that is newer than the stored one',
      { stored: 'old', file: 'new', controller: 'new' },
      ['old', 'new'],
    ],
    [
      'under the configured one where what is stored is no bundle',
      { stored: 'rubbish', file: 'new', controller: 'new' },
      ['new'],
    ],
    ['under the stored bundle where no file is there', { stored: 'old', controller: 'old' }, ['old']],
  ])('%s', async (_claim, row, asked) => {
    expect(await first(row)).toEqual({ asked, code: undefined, message: undefined });
  });

  it.each<[claim: string, row: Row, asked: string[], message: string]>([
    [
      'neither vouches for the controller',
      { stored: 'old', file: 'new', controller: 'nobody' },
      ['old', 'new'],
      'it is somebody else; whom to trust was read from stored.pem (stored here last) and configured.pem (controller.bundle); if the controller has another CA now, put that into configured.pem',
    ],
    [
      'both say the same, which is asked under once',
      { stored: 'old', file: 'old', controller: 'new' },
      ['old'],
      'it is somebody else; whom to trust was read from stored.pem (stored here last) and configured.pem (controller.bundle); if the controller has another CA now, put that into configured.pem',
    ],
    [
      'the configured file is not there',
      { stored: 'old', controller: 'new' },
      ['old'],
      'it is somebody else; and configured.pem: the file does not exist; make a trust domain with `hauberk init --trust-domain DOMAIN`, or copy the bundle of an existing one; whom to trust was read from stored.pem (stored here last) and configured.pem (controller.bundle); if the controller has another CA now, put that into configured.pem',
    ],
    [
      "a pod's own text is of the time when it was made, and a CA that was taken back stays so",
      { stored: 'new', text: 'old', controller: 'old' },
      ['new'],
      'it is somebody else; whom to trust was read from stored.pem (stored here last); if the controller has another CA now, put that into controller.bundlePem and delete stored.pem, or start the pod anew',
    ],
    [
      'only a file is configured',
      { file: 'old', controller: 'new' },
      ['old'],
      'it is somebody else; whom to trust was read from configured.pem (controller.bundle); if the controller has another CA now, put that into configured.pem',
    ],
    [
      'only a text is configured',
      { text: 'old', controller: 'new' },
      ['old'],
      'it is somebody else; whom to trust was read from controller.bundlePem; if the controller has another CA now, put that there, or start the pod anew',
    ],
  ])('or is refused, and the message names what was tried: %s', async (_claim, row, asked, message) => {
    expect(await first(row)).toEqual({ asked, code: 'controller-untrusted', message });
  });

  it('under one bundle alone if the controller is away', async () => {
    const row: Row = { stored: 'old', file: 'new', controller: 'new', fails: 'controller-unreachable' };
    expect(await first(row)).toEqual({
      asked: ['old'],
      code: 'controller-unreachable',
      message: 'it is somebody else',
    });
  });
});
