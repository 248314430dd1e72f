import { ConfigError } from '../../../src/config/errors.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import { COMPLETE, LEAST } from '../../config/samples.ts';
import { mutateBytes } from '../mutator.ts';
import { claim, same, type Target } from '../target.ts';

export type Parse = (text: string) => unknown;

export function checkConfig(input: Buffer, parse: Parse): void {
  const text = input.toString('utf8');
  const once = (): string => {
    try {
      return JSON.stringify(parse(text));
    } catch (error) {
      claim(error instanceof ConfigError, `it threw ${String(error)}`);
      claim(error.issues.length > 0, 'an error that says nothing');
      for (const { message, line } of error.issues) {
        claim(!/[\x00-\x1f\x7f]/.test(message), () => `controls in ${JSON.stringify(message)}`);
        claim(line === undefined || line <= text.split('\n').length, 'a line that there is not');
      }
      return error.message;
    }
  };
  same(once(), once(), 'not the same twice');
}

export const target: Target = {
  name: 'config',
  claim:
    'any text is a configuration or a ConfigError that says where, in printable lines, the same each time',
  seeds: [
    LEAST,
    COMPLETE,
    `${LEAST}http2: { floodFrames: -1 }\n`,
    `${LEAST}a: &a [*b]\n`,
    `${LEAST}session: { idle: 1x }\nsession: {}\n`,
    '{',
    '- x',
  ].map((text) => Buffer.from(text)),
  maxLength: 2000,
  mutate: mutateBytes,
  run: (input) => checkConfig(input, (text) => parseConfig(text, { file: 'sidecar.yaml' })),
};
