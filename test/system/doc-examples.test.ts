import { playPages } from '../harness/docexamples.ts';

// The examples of README.md and of the pages of docs/, as a reader would try them, with the package that this checkout
// would publish. doc-howtos.test.ts has those of docs/howto/, doc-programs.test.ts those of examples/, doc-types.test.ts
// checks the types of all.
playPages((page) => !page.startsWith('docs/howto/') && !page.startsWith('examples/'));
