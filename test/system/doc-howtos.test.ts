import { playPages } from '../harness/docexamples.ts';

playPages((page) => page.startsWith('docs/howto/'));
