import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { toPem } from '../../src/identity/pem.ts';
import { CertifyStub, hourCa } from '../harness/certifystub.ts';
import { hauberk } from '../harness/cli.ts';
import { atEnd, type ConfigFile } from '../harness/sidecars.ts';

const PEER = 'spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller';
const WEB = 'spiffe://shop.example/ns/shop/sa/web';

it('check-config --ask-controller is certified once, and leaves nothing behind; or says why it is not', async () => {
  const stub = await CertifyStub.start(600_000, PEER);
  atEnd(() => stub.stop());
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-ask-'));
  atEnd(() => rm(folder, { recursive: true }));
  const config: ConfigFile = { trustDomain: 'shop.example', ...(await stub.config(folder, WEB)) };
  const ask = (changes = {}): ReturnType<typeof hauberk> =>
    hauberk(['check-config', '--ask-controller'], {
      env: { HAUBERK_CONFIG: stringify({ ...config, ...changes }) },
    });

  const asked = await ask();
  expect(asked).toMatchObject({ code: 0, stderr: '' });
  expect(asked.stdout).toMatch(
    /^HAUBERK_CONFIG: ok; .*\nidentity: spiffe:\/\/shop\.example\/ns\/shop\/sa\/web, until \S+Z, certified by the controller at 127\.0\.0\.1\n$/,
  );
  expect(stub.issued).toBe(1);
  expect(await readdir(folder)).toEqual(['token']);

  const stored = join(folder, 'bundle.pem');
  await writeFile(stored, toPem('CERTIFICATE', (await hourCa('CN=Before')).der));
  const configured = join(folder, 'configured.pem');
  const { bundlePem, ...controller } = config.controller as Record<string, string>;
  await writeFile(configured, bundlePem as string);
  const newer = await ask({ controller: { ...controller, bundle: configured } });
  expect(newer).toMatchObject({ code: 0, stderr: '' });
  await Promise.all([rm(stored), rm(configured)]);

  await writeFile(join(folder, 'token'), 'of-somebody-else');
  const refused = await ask();
  expect(refused).toMatchObject({ code: 4, stderr: expect.stringContaining('not one of this stub') });

  stub.stop();
  const away = await ask();
  expect(away).toMatchObject({ code: 4, stderr: expect.stringContaining('127.0.0.1') });
  expect(await readdir(folder)).toEqual(['token']);
});
