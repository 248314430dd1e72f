import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

interface Requirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values?: readonly string[];
}
interface Selector {
  readonly matchExpressions: readonly Requirement[];
}
interface Hook {
  readonly name: string;
  readonly namespaceSelector: Selector;
  readonly objectSelector?: Selector;
  readonly matchConditions?: ReadonlyArray<{ readonly name: string; readonly expression: string }>;
}
type Texts = Readonly<Record<string, string>>;
interface Metadata {
  readonly labels?: Texts;
  readonly annotations?: Texts;
}

const BASE = new URL('../../deploy/kubernetes/base/hauberk.yaml', import.meta.url);
const hooks = parseAllDocuments(readFileSync(BASE, 'utf8'))
  .map((document) => document.toJS() as { kind: string; webhooks: Hook[] })
  .find(({ kind }) => kind === 'MutatingWebhookConfiguration')?.webhooks as Hook[];

function selects(selector: Selector | undefined, labels: Texts): boolean {
  return (selector?.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels[key];
    if (operator === 'Exists') return value !== undefined;
    if (operator === 'DoesNotExist') return value === undefined;
    return (value !== undefined && values.includes(value)) === (operator === 'In');
  });
}

/** CEL as far as the chart uses it, which is JavaScript but for two macros. */
function holds(expression: string, metadata: Metadata): boolean {
  const script = expression
    .replaceAll(/has\(([a-z.]+)\)/g, '($1 !== undefined)')
    .replaceAll(/\.exists\(k, (k\.startsWith\('[a-z./]+'\))\)/g, '.keys().some((k) => $1)')
    .replaceAll(/([a-z.]+)\.keys\(\)/g, 'Object.keys($1)');
  return new Function('object', `return ${script}`)({ metadata }) as boolean;
}

/** Names of the webhooks that the API server asks. */
const asked = (ofNamespace: string | undefined, pod: Metadata): string[] =>
  hooks
    .filter(
      ({ namespaceSelector, objectSelector, matchConditions = [] }) =>
        selects(namespaceSelector, {
          'kubernetes.io/metadata.name': 'shop',
          ...(ofNamespace === undefined ? {} : { 'hauberk.mesh/inject': ofNamespace }),
        }) &&
        selects(objectSelector, pod.labels ?? {}) &&
        matchConditions.every(({ expression }) => holds(expression, pod)),
    )
    .map(({ name }) => name.split('.')[0] as string);

const says = (annotation?: string, label?: string): Metadata => ({
  ...(annotation === undefined ? {} : { annotations: { 'hauberk.mesh/inject': annotation, other: 'x' } }),
  ...(label === undefined ? {} : { labels: { 'hauberk.mesh/inject': label, other: 'x' } }),
});

describe('which pods API servers send to the injector', () => {
  it.each<[what: string, pod: Metadata, none: string[], enabled: string[], disabled: string[]]>([
    ['a pod that says nothing', {}, [], ['namespace'], []],
    ['one with keys of others', { annotations: { a: 'b' }, labels: { a: 'b' } }, [], ['namespace'], []],
    ['the annotation asks', says('enabled'), ['annotation'], ['namespace'], ['annotation']],
    ['the label asks', says(undefined, 'enabled'), ['label'], ['namespace'], ['label']],
    ['both ask', says('enabled', 'enabled'), ['label'], ['namespace'], ['label']],
    ['the annotation refuses', says('disabled'), [], [], []],
    ['the label refuses', says(undefined, 'disabled'), [], [], []],
    ['both refuse', says('disabled', 'disabled'), [], [], []],
    ['a word that is none', says('yes'), ['annotation'], ['namespace'], ['annotation']],
    [
      'asks by annotation, refuses by label',
      says('enabled', 'disabled'),
      ['label'],
      ['namespace'],
      ['label'],
    ],
    [
      'refuses by annotation, asks by label',
      says('disabled', 'enabled'),
      ['label'],
      ['namespace'],
      ['label'],
    ],
    [
      'a misspelt annotation',
      { annotations: { 'hauberk.mesh/injct': 'enabled' } },
      ['annotation'],
      ['namespace'],
      ['annotation'],
    ],
    [
      'a misspelt label',
      { labels: { 'hauberk.mesh/injct': 'enabled' } },
      ['annotation'],
      ['namespace'],
      ['annotation'],
    ],
  ])('%s', (_what, pod, none, enabled, disabled) => {
    expect([asked(undefined, pod), asked('enabled', pod), asked('disabled', pod)]).toEqual([
      none,
      enabled,
      disabled,
    ]);
  });
});
