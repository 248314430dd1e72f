/*
 * Loaded into a sidecar's process before the sidecar, by `node --expose-gc --import`. It tells files what only that process
 * knows, and leaves no copy of it in memory:
 *
 * - TEST_INSIDER_FILE: on SIGUSR2, when garbage has been collected, what memory is in use; a line of JSON each time
 * - TEST_INSIDER_FILE.report: Node's diagnostic report then, if TEST_INSIDER_REPORT is set
 * - TEST_INSIDER_FILE.keys, if TEST_INSIDER_KEYS is set (a full collection for each key): every private key as it is made, and the random bytes that JavaScript asks for:
 *   kind u8 | length u16 | bytes
 */
import crypto from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { setImmediate as turn } from 'node:timers/promises';

const file = process.env.TEST_INSIDER_FILE;
const COLLECTIONS = 10;
const PKCS8 = 1;
const RANDOM = 2;

process.on('SIGUSR2', async () => {
  for (let n = 0; n < COLLECTIONS; n++) {
    globalThis.gc();
    await turn();
  }
  if (process.env.TEST_INSIDER_REPORT) {
    process.report.excludeNetwork = true; // names of addresses would be looked up
    appendFileSync(`${file}.report`, JSON.stringify(process.report.getReport()));
  }
  appendFileSync(file, `${JSON.stringify(process.memoryUsage())}\n`);
});

const tellsKeys = process.env.TEST_INSIDER_KEYS !== undefined;

function tell(kind, bytes) {
  if (!tellsKeys) return;
  appendFileSync(`${file}.keys`, Buffer.of(kind, bytes.length >> 8, bytes.length & 0xff));
  appendFileSync(`${file}.keys`, bytes);
}

const { generateKeyPairSync } = crypto;
crypto.generateKeyPairSync = (...args) => {
  const pair = generateKeyPairSync(...args);
  if (!tellsKeys) return pair;
  globalThis.gc(); // the generator's job holds the key, and a collection during the export would wait for itself
  const der = pair.privateKey.export({ format: 'der', type: 'pkcs8' });
  tell(PKCS8, der);
  der.fill(0);
  return pair;
};
syncBuiltinESMExports();

const web = Object.getPrototypeOf(globalThis.crypto);
const { getRandomValues } = web;
web.getRandomValues = function (array) {
  getRandomValues.call(this, array);
  tell(RANDOM, array);
  return array;
};
