import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAJORS, PackedProject } from '../harness/packed.ts';

/*
 * The package as users get it: packed, installed in an empty project, used from ES modules, from CommonJS and from strict TypeScript
 * with each of the resolutions that there are.
 */

let project: PackedProject;
beforeAll(async () => {
  // The optional peer of one part.
  project = await PackedProject.make(['@bufbuild/protobuf@2']);
});
afterAll(() => project[Symbol.asyncDispose]());

/** What a program does with each part. */
const USE = `
  async function use() {
    const limiter = new RateLimiter({ maxRequests: 1, windowMs: 60_000 });
    console.log((await limiter.consume('a')).allowed, (await limiter.consume('a')).allowed);
    await limiter.close();

    const health = new HealthMonitor().add('part', () => { throw new Error('broken'); });
    console.log((await health.check()).checks[0]?.lastError);

    const sessions = new SessionManager(60_000);
    const session = sessions.createSession('orders.shop', Buffer.alloc(32, 7));
    console.log(await sessions.executeInSession(session.id, async ({ sessionKey }) => sessionKey.bytes.length));
    await sessions.shutdown(0);
    console.log(session.sessionKey instanceof Secret, session.sessionKey.wiped);

    await Promise.resolve(streamAdapter(process.stdout).write([event]));
    try {
      new RateLimiter({ maxRequests: 0, windowMs: 60_000 });
    } catch (error) {
      console.log(error instanceof LimitError && error.code);
    }
  }
`;
const NAMES = {
  hauberk: ['LimitError'],
  'hauberk/limits': ['RateLimiter'],
  'hauberk/health': ['HealthMonitor'],
  'hauberk/sessions': ['SessionManager', 'Secret'],
  'hauberk/monitoring': ['streamAdapter'],
};
const EVENT = `{ type: 'sidecar.ready', time: '', seq: 1, sidecar: '', instance: '', listeners: ['a'] }`;
const ESM = Object.entries(NAMES).map(([from, names]) => `import { ${names.join(', ')} } from '${from}';`);
const CJS = Object.entries(NAMES).map(
  ([from, names]) => `const { ${names.join(', ')} } = require('${from}');`,
);
const SAYS = [
  'true false',
  'broken',
  '32',
  'true true',
  '{"type":"sidecar.ready","time":"","seq":1,"sidecar":"","instance":"","listeners":["a"]}',
  'bad-limit',
];

describe.each(MAJORS)('on Node %d', (major) => {
  it.each([
    ['an ES module', 'program.mjs', [...ESM, `const event = ${EVENT};`, USE, 'await use();']],
    ['CommonJS', 'program.cjs', [...CJS, `const event = ${EVENT};`, USE, 'void use();']],
  ])('%s uses every part without a warning, and ends by itself', async (_what, name, lines) => {
    await project.write(name, lines.join('\n'));
    const { code, stderr, stdout } = await project.run(major, name);
    expect([code, stderr, stdout.trimEnd().split('\n')]).toEqual([0, '', SAYS]);
  });

  it('there is one copy of every class, and every entry is loaded by both', async () => {
    await project.write(
      'copies.cjs',
      `
        const { exports: entries } = require('hauberk/package.json');
        (async () => {
          for (const entry of Object.keys(entries)) {
            if (entry.endsWith('.json')) continue;
            const name = 'hauberk' + entry.slice(1);
            const [cjs, esm] = [require(name), await import(name)];
            const whole = name === 'hauberk/bufbuild' ? esm : require('hauberk');
            const same = Object.keys(esm).filter((key) => cjs[key] === esm[key] && whole[key] === esm[key]);
            console.log(name, same.length === Object.keys(esm).length && same.length === Object.keys(cjs).length && same.length > 0);
          }
        })();
      `,
    );
    const { code, stderr, stdout } = await project.run(major, 'copies.cjs');
    const lines = stdout.trimEnd().split('\n');
    expect([code, stderr]).toEqual([0, '']);
    expect(lines.filter((line) => !line.endsWith(' true'))).toEqual([]);
    expect(lines.length).toBe(7);
  });
});

describe('strict TypeScript', () => {
  const TYPED = `
    const event: AuditEvent = ${EVENT};
    const told: SessionEventOf<'disposed'>[] = [];
    const adapter: MonitoringAdapter = { write: (events) => events.forEach((it) => {
      if (it.type === 'session.created') { const one: AuditEventOf<'session.created'> = it; console.log(one.peer); }
    }) };
    const result = async (limiter: RateLimiter): Promise<RateLimitResult> => limiter.consume('a');
    class Mine extends SessionManager { own = 1; }
    export const kept: [Session | undefined, HealthStatus, unknown] = [
      new Mine().peek('x'), new HealthMonitor().status(), [told, adapter, result],
    ];
    ${USE}
    void use();
  `;
  const TYPES = [
    `import type { AuditEvent, AuditEventOf, MonitoringAdapter } from 'hauberk/monitoring';`,
    `import type { RateLimitResult } from 'hauberk/limits';`,
    `import type { HealthStatus, Session, SessionEventOf } from 'hauberk';`,
  ];
  const STRICT = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    esModuleInterop: true,
    target: 'es2022',
    types: 'node',
  };

  beforeAll(async () => {
    const source = [...ESM, ...TYPES, TYPED].join('\n');
    for (const name of ['esm.mts', 'cjs.cts', 'plain.ts']) await project.write(`src/${name}`, source);
  });

  it.each<[module: string, moduleResolution: string, files: string[]]>([
    ['nodenext', 'nodenext', ['esm.mts', 'cjs.cts']],
    ['node16', 'node16', ['esm.mts', 'cjs.cts']],
    ['esnext', 'bundler', ['plain.ts']],
    ['commonjs', 'node10', ['plain.ts']],
  ])('compiles with module %s, resolution %s, and runs', async (module, moduleResolution, files) => {
    const outDir = `out-${module}`;
    const sources = files.map((name) => `src/${name}`);
    expect(await project.compile(sources, { ...STRICT, module, moduleResolution, outDir })).toBe('');
    for (const name of files) {
      const program = `${outDir}/${name.replace('ts', 'js')}`;
      // Without "type" in package.json a .js file is CommonJS.
      if (module === 'esnext') await project.write(`${outDir}/package.json`, '{"type":"module"}');
      const { code, stderr, stdout } = await project.run(20, program);
      expect([name, code, stderr, stdout.trimEnd().split('\n')]).toEqual([name, 0, '', SAYS]);
    }
  });

  it('a mistake is told, in either kind of module', async () => {
    const wrong = `import { RateLimiter } from 'hauberk/limits';\nnew RateLimiter({ maxRequests: '1', windowMs: 1 });`;
    await project.write('src/wrong.mts', wrong);
    await project.write('src/wrong.cts', wrong);
    const said = await project.compile(['src/wrong.mts', 'src/wrong.cts'], {
      ...STRICT,
      module: 'nodenext',
      noEmit: true,
    });
    expect(said.match(/error TS2322/g)).toHaveLength(2);
  });
});

describe('the tarball', () => {
  it('has what is used and nothing else', () => {
    const paths = project.tarball.contents.map(({ path }) => path);
    const folders = new Set(paths.map((path) => (path.includes('/') ? path.split('/')[0] : path)));
    expect([...folders].sort()).toEqual([
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'dist',
      'docs',
      'package.json',
      'proto',
    ]);
    expect(
      paths.filter((path) => path.startsWith('dist/') && !/\.(d\.ts|js|cjs|d\.cts)$/.test(path)),
    ).toEqual([]);
    expect(paths.filter((path) => /\.map$|\.test\.|tsbuildinfo|\.vp$|(^|\/)\./.test(path))).toEqual([]);
  });

  it('stays small', () => {
    expect(project.tarball.size).toBeLessThan(1_000_000);
    expect(project.tarball.unpackedSize).toBeLessThan(3_500_000);
  });

  it('names every file that package.json speaks of', async () => {
    const paths = new Set(project.tarball.contents.map(({ path }) => `./${path}`));
    const { main, types, bin, exports, typesVersions } = JSON.parse(
      await project.read('node_modules/hauberk/package.json'),
    );
    const named =
      JSON.stringify([main, types, bin, exports, typesVersions]).match(/"(\.\/)?dist\/[^"]+"/g) ?? [];
    const missing = named
      .map((text) => `./${text.slice(1, -1).replace(/^\.\//, '')}`)
      .filter((path) => !paths.has(path));
    expect([named.length > 20, missing]).toEqual([true, []]);
    // Old resolvers find what new ones do.
    const parts = Object.keys(exports).filter((entry) => entry !== '.' && !entry.endsWith('.json'));
    expect(Object.keys(typesVersions['*']).map((part) => `./${part}`)).toEqual(parts);
  });
});
