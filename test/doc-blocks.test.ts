import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { valuesSchema } from '../scripts/chart/render.ts';
import { CONTROLLER_FORM } from '../src/config/controllerform.ts';
import { parseConfig, parseForm } from '../src/config/parse.ts';
import { SESSION_TRANSITIONS } from '../src/session/lifecycle.ts';
import { type Block, blocksOf, treatmentOf } from './harness/docpage.ts';
import { examplePages, readPage } from './harness/docpages.ts';
import { portsOf } from './harness/docrunner.ts';
import { commandsOf, matchOutput, transcriptOf } from './harness/doctranscript.ts';
import { injectPod } from './harness/injection.ts';
import { type KubernetesObject, schemaFaults } from './harness/kubernetes-schema.ts';
import { mermaidFaults } from './harness/mermaid.ts';
import { podOf } from './harness/podfaults.ts';

const pages = examplePages().map((page) => [page, blocksOf(readPage(page))] as const);

function blocks(treatment: ReturnType<typeof treatmentOf>): Array<[where: string, block: Block]> {
  return pages.flatMap(([page, all]) =>
    all
      .filter((block) => treatmentOf(block) === treatment)
      .map((block) => [`${page}:${block.line}`, block] as [string, Block]),
  );
}

describe('the blocks of README.md and docs/', () => {
  it('are each run, type-checked, parsed, or say why not', () => {
    expect(blocks(undefined).map(([where, { language }]) => `${where} ${language}`)).toEqual([]);
  });

  it('of files are of use to a command, or to another file', () => {
    for (const [page, all] of pages) {
      for (const block of all.filter((one) => treatmentOf(one) === 'file')) {
        const name = block.words.get('file') as string;
        const others = all.filter((other) => other !== block && treatmentOf(other) !== 'not-run');
        expect(
          others.some(({ text }) => text.includes(name)),
          `${page}: ${name}`,
        ).toBe(true);
      }
    }
  });

  it.each(blocks('configuration'))('%s is a configuration that is accepted', (_where, block) => {
    expect(() => configurationOf(block)).not.toThrow();
  });

  it.each(blocks('json'))('%s is JSON', (_where, { text }) => {
    for (const line of text.trim().startsWith('{') ? [text] : text.trim().split('\n')) JSON.parse(line);
  });

  it.each(blocks('mermaid'))('%s is a drawing', (_where, { text }) => {
    expect(mermaidFaults(text)).toEqual([]);
  });
});

it("the drawing of a session's life in docs/concepts.md has every transition, and no other", () => {
  const drawn = blocksOf(readPage('docs/concepts.md')).find(({ text }) => text.startsWith('stateDiagram'));
  const arrows = [...(drawn?.text ?? '').matchAll(/^ +(\w+) --> (\w+)/gm)].map(
    ([, from, to]) => `${from} ${to}`,
  );
  const legal = Object.entries(SESSION_TRANSITIONS).flatMap(([from, all]) =>
    all.map((to) => `${from} ${to}`),
  );
  expect(arrows.toSorted()).toEqual(legal.toSorted());
});

/** As a sidecar, or the controller, would read it. A `part` gets what every configuration must have. */
function configurationOf({ text, words }: Block): unknown {
  if (words.has('kubernetes')) return kubernetesOf(text);
  if (words.has('values')) return valuesOf(text);
  if (words.has('controller')) {
    return parseForm(CONTROLLER_FORM, text, { file: '/etc/hauberk/controller.yaml' });
  }
  const least = {
    trustDomain: 'shop.example',
    identity: { svid: 'keys/web.pem', key: 'keys/web.key', bundle: 'keys/bundle.pem' },
  };
  const whole = words.has('part') ? JSON.stringify({ ...least, ...parse(text) }) : text;
  return parseConfig(whole, { file: '/etc/hauberk/sidecar.yaml' });
}

/** As the API server would take them; pods also as the injector leaves them, where they ask for it. */
function kubernetesOf(text: string): KubernetesObject[] {
  const objects = parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject);
  const faults = objects.flatMap((object) => {
    const pod = podOf(object);
    const asks = pod?.metadata?.annotations !== undefined;
    const injected = asks ? injectPod({ apiVersion: 'v1', kind: 'Pod', ...pod }).pod : undefined;
    return [...schemaFaults(object), ...(injected === undefined ? [] : schemaFaults(injected))];
  });
  if (faults.length > 0) throw new Error(faults.join('\n'));
  return objects;
}

/** As Helm would take them. */
function valuesOf(text: string): unknown {
  const values = parse(text) as unknown;
  const validate = new Ajv({ strict: false }).compile(valuesSchema() as object);
  if (!validate(values)) throw new Error(JSON.stringify(validate.errors));
  return values;
}

describe('reading blocks', () => {
  const TICKS = '```';
  const one = (text: string): Block => {
    const [block, ...rest] = blocksOf(text);
    expect(rest).toEqual([]);
    return block as Block;
  };

  it('finds words, with and without values', () => {
    const { line, language, words, text, hidden } = one(
      `a\n\n${TICKS}console terminal=web not-run="it takes a day"\n$ true\n${TICKS}\n`,
    );
    expect({ line, language, text, hidden }).toEqual({
      line: 3,
      language: 'console',
      text: '$ true\n',
      hidden: false,
    });
    expect([...words]).toEqual([
      ['terminal', 'web'],
      ['not-run', 'it takes a day'],
    ]);
  });

  it('finds what readers do not see, and leaves other comments alone', () => {
    const { language, text, hidden } = one(
      `<!-- ${TICKS}sh -->\n<!--\n${TICKS}sh\n-->\n<!-- docs: sh run\nmkdir a\n-->\n`,
    );
    expect({ language, text, hidden }).toEqual({ language: 'sh', text: 'mkdir a\n', hidden: true });
  });

  it('finds blocks in lists, without their margin', () => {
    expect(one(`1. first\n\n   ${TICKS}sh run\n   true\n     false\n   ${TICKS}\n`).text).toBe(
      'true\n  false\n',
    );
  });

  it('finds blocks without a fence, which nothing would look at', () => {
    const block = one('text\n\n    true\n\n    false\n\nmore\n');
    expect([block.language, treatmentOf(block)]).toEqual(['indented', undefined]);
    expect(blocksOf('- text\n\n    its second paragraph\n')).toEqual([]);
  });

  it.each([
    ['a fence that does not end', `${TICKS}sh\ntrue\n`, /line 1: .* does not end/],
    ['a misspelt word', `${TICKS}sh rnu\ntrue\n${TICKS}\n`, /line 1: no word `rnu`/],
  ])('refuses %s', (_what, text, message) => {
    expect(() => blocksOf(text)).toThrow(message);
  });

  it.each([
    ['sh run', 'run'],
    ['sh', undefined],
    ['console', 'run'],
    ['ts', undefined],
    ['ts check', 'type-check'],
    ['ts file=a.ts', 'type-check'],
    ['yaml', 'configuration'],
    ['text', undefined],
    ['text not-run=""', undefined],
    ['text not-run="a drawing"', 'not-run'],
    ['js file=a.mjs', 'file'],
    ['', undefined],
  ])('`%s` is treated as %s', (info, treatment) => {
    expect(treatmentOf(one(`${TICKS}${info}\n{}\n${TICKS}\n`))).toBe(treatment);
  });

  it('finds commands and what they are shown to print', () => {
    expect(transcriptOf('$ a \\\n> b\none\ntwo\n$ c\n^C\nthree\n')).toEqual([
      { command: 'a \\\nb', output: ['one', 'two'] },
      { command: 'c', output: [] },
      { command: '^C', output: ['three'] },
    ]);
    expect(transcriptOf('more\n')).toEqual([{ command: undefined, output: ['more'] }]);
    expect(commandsOf('# why\na \\\n  b\n\nc # that\n')).toEqual(['a \\\n  b', 'c # that']);
  });

  it('finds the ports that a page uses', () => {
    const page = [
      `${TICKS}yaml file=a.yaml\nlisten: "127.0.0.1:15101"\nother: localhost:15102 # 12:3456\n${TICKS}`,
      `${TICKS}sh run\nredis-server --port 15103\n${TICKS}`,
      `${TICKS}ts file=a.ts\nnew SecureMesh({ port: 15104 }); await server.start(15105);\n${TICKS}`,
      `${TICKS}yaml\nlisten: 127.0.0.1:15106\n${TICKS}`,
    ].join('\n\n');
    expect(portsOf(blocksOf(page))).toEqual([15101, 15102, 15103, 15104, 15105]);
    expect(portsOf(blocksOf(`${TICKS}console\n$ hauberk run -c a.yaml\n${TICKS}\n`))).toContain(15008);
  });

  it.each([
    [['a'], 'a\n', true, 2],
    [['a'], 'a  \n', true, 4],
    [['a'], 'ab\n', true, -1],
    [['a'], 'a\nb\n', true, -1],
    [['a'], 'a\nb\n', false, 2],
    [[], '', true, 0],
    [[], 'a\n', true, -1],
    [['a … b (1.5)'], 'a x y b (1.5)\n', true, 14],
    [['a … b'], 'a\nb\n', true, -1],
    [['1.5'], '1x5\n', true, -1],
    [['a', '…', 'd'], 'a\nb\nc\nd\n', true, 8],
    [['a', '…', 'd'], 'a\nd\n', true, 4],
    [['a', '…', 'd'], 'a\nb\n', true, -1],
    [['…'], 'a\nb\n', true, 4],
  ])('%j is shown for %j (whole: %s): %i', (shown, printed, whole, length) => {
    expect(matchOutput(shown, printed, whole)).toBe(length);
  });

  it.each([
    ['no kind', 'graph\n  a --> b\n', 1],
    ['an end too many', 'sequenceDiagram\n  A->>B: x\n  end\n', 1],
    ['a loop without end', 'sequenceDiagram\n  loop a\n  A->>B: x\n', 1],
    ['an arrow that is none', 'sequenceDiagram\n  A=>>B: x\n', 1],
    ['an open bracket', 'flowchart LR\n  a["x] --> b\n', 1],
    ['a state without an arrow', 'stateDiagram-v2\n  a -> b\n', 1],
    ['nothing wrong', 'flowchart LR\n  a["x (y)"] -->|z| b\n', 0],
  ])('a drawing with %s has faults: %j', (_what, text, faults) => {
    expect(mermaidFaults(text)).toHaveLength(faults);
  });
});
