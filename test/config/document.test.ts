import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readDocument } from '../../src/config/document.ts';
import { issuesOf, LEAST, linesOf } from './samples.ts';

describe('YAML that cannot be read is refused', () => {
  it.each([
    ['a tab for indentation', 'session:\n\tidle: 1h', '4:1 yaml-syntax a tab indents this line: use spaces'],
    ['a bracket left open', 'limits: [', '3:10 yaml-syntax'],
    ['a quote left open', 'policy: "open', '3:14 yaml-syntax'],
    ['two documents', '---\npolicy: open', '3:1 yaml-syntax the file holds several YAML documents'],
    ['an unknown tag', 'policy: !secret x', '3:9 yaml-syntax this tag (!...) is not known: remove it'],
    [
      'an alias without an anchor',
      'policy: *nowhere',
      '3:9 yaml-syntax no anchor before this alias is called "nowhere"',
    ],
    ['a key repeated', 'policy: open\npolicy: open', '4:1 duplicate-key policy is already given at line 3'],
    ['a key repeated as an escape', 'policy: open\n"p\\u006flicy": open', '4:1 duplicate-key policy'],
  ])('%s', (_, text, line) => {
    const issues = linesOf(LEAST + text);
    expect(issues[0]).toContain(line);
  });

  it('an alias within its own anchor', () => {
    const text = `${LEAST}monitoring: { adapters: [{ module: ./x, options: &o { again: *o } }] }`;
    expect(issuesOf(text).map((issue) => issue.code)).toEqual(['too-deep']);
  });

  it('an alias bomb, before it goes off', () => {
    const bomb = ['a: &a [x, x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 10; i++) {
      const [name, of] = [String.fromCharCode(97 + i), String.fromCharCode(96 + i)];
      bomb.push(`${name}: &${name} [${Array(10).fill(`*${of}`).join(', ')}]`);
    }
    expect(issuesOf(bomb.join('\n')).map((issue) => issue.code)).toEqual(['alias-limit']);
  });

  it('values nested deeper than 64 levels, but not 60', () => {
    const nested = (depth: number) =>
      `${LEAST}monitoring: { adapters: [{ module: ./x, options: { o: ${'['.repeat(depth)}${']'.repeat(depth)} } }] }`;
    expect(issuesOf(nested(58))).toEqual([]);
    expect(issuesOf(nested(64)).map((issue) => issue.code)).toEqual(['too-deep']);
    expect(issuesOf(nested(500_000)).map((issue) => issue.code)).toEqual(['too-deep']);
    expect(issuesOf('- '.repeat(500_000)).map((issue) => issue.code)).toEqual(['too-deep']);
  });

  it('more than 200,000 values', () => {
    const { issues } = readDocument(`[${'1,'.repeat(200_001)}]`);
    expect(issues.map((issue) => issue.code)).toEqual(['alias-limit']);
  });

  it('a thousand syntax errors are bounded', () => {
    expect(issuesOf('@ : [\n'.repeat(1_000)).length).toBeLessThanOrEqual(100);
  });
});

describe('a document', () => {
  it('knows the place of every key and value, also behind aliases and escapes', () => {
    const document = readDocument('a: &x\n  - b: 1\nc: *x\n"d/~": { e: [f] }\n');
    expect(document.valueAt('/a/0/b')).toEqual({ line: 2, column: 8 });
    expect(document.keyAt('/a/0/b')).toEqual({ line: 2, column: 5 });
    expect(document.keyAt('/c')).toEqual({ line: 3, column: 1 });
    expect(document.valueAt('/c/0/b')).toEqual({ line: 2, column: 8 });
    expect(document.valueAt('/d~1~0/e/0')).toEqual({ line: 4, column: 14 });
  });

  it('gives an alias the last anchor of that name before it', () => {
    const { value } = readDocument('a: &x [&y 1]\nb: &y 2\nc: *x\nd: *y\n&k e: &x 3\nf: *x\ng: *k\n');
    expect({ ...(value as object) }).toEqual({ a: [1], b: 2, c: [1], d: 2, e: 3, f: 3, g: 'e' });
  });

  it('places what is missing at the nearest key around it', () => {
    const document = readDocument('a:\n  b: { c: 1 }\n');
    expect(document.valueAt('/a/b/x/y')).toEqual({ line: 2, column: 3 });
    expect(document.valueAt('/z')).toEqual({ line: 1, column: 1 });
    expect(document.has('/a/b/c')).toBe(true);
    expect(document.has('/a/b/x')).toBe(false);
  });

  it('counts columns behind a byte order mark and Windows line ends', () => {
    expect(
      issuesOf('\ufefftrustDomain: A\r\nidentity: 5\r\n').map(({ line, column }) => [line, column]),
    ).toEqual([
      [1, 14],
      [2, 11],
    ]);
  });

  it('is read or refused, whatever the text, and never crashes', () => {
    const token = fc.constantFrom(
      ...[
        'a',
        ': ',
        '- ',
        '\n',
        '  ',
        '[',
        ']',
        '{',
        '}',
        ',',
        '&x ',
        '*x',
        '"',
        "'",
        '#',
        '|',
        '>',
        '? ',
        '!',
        '!!str ',
      ],
      ...[
        '%YAML 1.1',
        '---',
        '...',
        '\t',
        '\r',
        '\0',
        '\ufeff',
        '<<',
        '~',
        '1',
        'identity',
        'egress',
        'routes',
        '@',
        '`',
      ],
    );
    const text = fc.oneof(
      fc.array(token, { maxLength: 40 }).map((tokens) => tokens.join('')),
      fc.string({ unit: 'binary', maxLength: 60 }),
    );
    fc.assert(
      fc.property(text, (body) => {
        for (const issue of issuesOf(body)) {
          expect(issue.message).not.toBe('');
          expect(issue.message).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
