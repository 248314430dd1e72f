// Writes test/vectors/hbk1.json, the test vectors of HBK/1, from test/transport/reference/: an implementation of
// docs/protocol.md that shares no code with src/transport and src/noise. Run it as
// `node scripts/generate-protocol-vectors.mjs` after a change of the protocol; no build is needed.
import { writeFileSync } from 'node:fs';
import { tsImport } from 'tsx/esm/api';

const { protocolVectors } = await tsImport('../test/transport/reference/vectors.ts', import.meta.url);
const file = new URL('../test/vectors/hbk1.json', import.meta.url);
writeFileSync(file, `${JSON.stringify(await protocolVectors(), undefined, 1)}\n`);
