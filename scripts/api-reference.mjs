// Writes the API reference, one page an entry of the package, from the doc comments of what they export: into docs/api/, or into the
// folder that is given. An exported name without a doc comment, or a link that leads nowhere, is an error.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application } from 'typedoc';

const pathOf = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const out = process.argv[2] ?? pathOf('docs/api');

// A name is described on the page of its part; what has none, on that of the whole.
const parts = readdirSync(pathOf('src/entries'))
  .filter((file) => file.endsWith('.ts'))
  .sort()
  .map((file) => pathOf(`src/entries/${file}`));

const app = await Application.bootstrapWithPlugins({
  plugin: ['typedoc-plugin-markdown'],
  out,
  tsconfig: pathOf('tsconfig.build.json'),
  entryPoints: [...parts, pathOf('src/index.ts')],
  basePath: pathOf('src'),
  alwaysCreateEntryPointModule: true,
  readme: 'none',
  name: 'hauberk',
  disableSources: true,
  disableGit: true,
  excludeInternal: true,
  excludePrivate: true,
  excludeProtected: true,
  excludeExternals: true,
  sort: ['kind', 'alphabetical'],
  validation: { notExported: false, invalidLink: true, rewrittenLink: true, notDocumented: true },
  requiredToBeDocumented: ['Class', 'Interface', 'Function', 'Variable', 'TypeAlias', 'Enum', 'Namespace'],
  treatWarningsAsErrors: true,
  treatValidationWarningsAsErrors: true,
  // Of the Markdown.
  outputFileStrategy: 'modules',
  entryFileName: 'README',
  flattenOutputFiles: true,
  hideBreadcrumbs: true,
  hidePageHeader: true,
  hideGroupHeadings: false,
  tableColumnSettings: {
    hideDefaults: true,
    hideInherited: true,
    hideModifiers: true,
    hideOverrides: true,
    hideSources: true,
  },
  expandObjects: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  classPropertiesFormat: 'table',
  typeDeclarationFormat: 'table',
});
const project = await app.convert();
if (project === undefined) process.exit(1);
app.validate(project);
if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1);
await app.generateOutputs(project);
if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1);

// The plugin takes the member `state` of `Session` and the type `SessionState` for one anchor, and counts the second up.
const pages = readdirSync(out).filter((file) => file.endsWith('.md'));
const textOf = new Map(pages.map((page) => [page, readFileSync(join(out, page), 'utf8')]));
const anchorsOf = new Map([...textOf].map(([page, text]) => [page, anchors(text)]));
for (const [page, text] of textOf) {
  const mended = text.replace(/\]\(([^()#\s]*)#([\w-]+)-\d+\)/g, (link, target, anchor) => {
    const there = anchorsOf.get(target === '' ? page : target);
    return there === undefined || there.has(link.slice(link.indexOf('#') + 1, -1)) || !there.has(anchor)
      ? link
      : `](${target}#${anchor})`;
  });
  if (mended !== text) writeFileSync(join(out, page), mended);
}

function anchors(text) {
  const seen = new Map();
  const headings = text.matchAll(/^#{1,6} (.*)$/gm);
  return new Set(
    [...headings].map(([, heading]) => {
      const anchor = heading
        .toLowerCase()
        .replace(/[^\w -]/g, '')
        .replaceAll(' ', '-');
      const before = seen.get(anchor) ?? 0;
      seen.set(anchor, before + 1);
      return before === 0 ? anchor : `${anchor}-${before}`;
    }),
  );
}
