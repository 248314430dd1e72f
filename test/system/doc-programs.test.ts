import { playPages } from '../harness/docexamples.ts';

// What the READMEs of examples/ tell to run; examples.test.ts has what happens to the programs besides.
playPages((page) => page.startsWith('examples/'));
