import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { renderRanges, renderReadme, renderValues, valuesSchema } from '../../scripts/chart/render.ts';
import { CONTROLLER_FORM, RENEW_OVER_RETRY, WRITTEN_BY_INJECTOR } from '../../src/config/controllerform.ts';
import { parseForm } from '../../src/config/parse.ts';
import { renderJson } from '../../src/config/reference.ts';

const CHART = new URL('../../helm/hauberk/', import.meta.url);
const read = (file: string): string => readFileSync(new URL(file, CHART), 'utf8');

describe('the values of the chart', () => {
  it.each([
    ['values.yaml', renderValues],
    ['values.schema.json', () => `${renderJson(valuesSchema())}\n`],
    ['templates/_ranges.tpl', renderRanges],
    ['README.md', () => renderReadme(read('README.md'))],
  ])('%s is as generate-docs.mjs writes it', (file, render) => {
    expect(read(file)).toBe(render());
  });

  const validate = new Ajv({ strict: false, allErrors: true }).compile(valuesSchema() as object);
  const faults = (values: unknown): string[] =>
    validate(values)
      ? []
      : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);

  it.each(['values.yaml', 'values-ha.yaml'])('%s fits the schema', (file) => {
    expect(faults(parse(read(file)))).toEqual([]);
  });

  it('each value has a default or may be left out', () => {
    expect(faults({})).toEqual([]);
  });

  it('an unknown value is refused wherever it stands', () => {
    const values = parse(read('values.yaml')) as Record<string, unknown>;
    const refusedIn: string[] = [];
    const sections: string[] = [];
    const visit = (value: unknown, path: string[]): void => {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return;
      const open = /[Aa]nnotations|[Ll]abels|nodeSelector|^resources\.|injector\.resources/.test(
        path.join('.'),
      );
      if (!open) {
        sections.push(path.join('.'));
        const copy = structuredClone(values);
        let at = copy as Record<string, Record<string, unknown>>;
        for (const key of path) at = at[key] as typeof at;
        (at as Record<string, unknown>).unknownValue = 'x';
        if (faults(copy).some((fault) => fault.endsWith('must NOT have additional properties'))) {
          refusedIn.push(path.join('.'));
        }
      }
      for (const [key, child] of Object.entries(value)) visit(child, [...path, key]);
    };
    visit(values, []);
    expect(refusedIn).toEqual(sections);
    expect(sections).toContain('config.injector.proxy');
  });

  it('what the injector writes for each pod is no value, because the controller refuses it', () => {
    for (const key of WRITTEN_BY_INJECTOR) {
      expect(faults({ config: { injector: { proxy: { [key]: {} } } } }), key).toEqual([
        '/config/injector/proxy must NOT have additional properties',
      ]);
    }
  });

  it('the leader has the times that the controller asks for', () => {
    expect(read('templates/_checks.tpl')).toContain(
      `(mulf (include "hauberk.seconds" $leader.retry | float64) ${RENEW_OVER_RETRY})`,
    );
  });

  it("values under config are a controller's configuration", () => {
    const { config } = parse(read('values.yaml')) as { config: object };
    expect(() => parseForm(CONTROLLER_FORM, JSON.stringify(config), { file: 'values.yaml' })).not.toThrow();
  });
});
