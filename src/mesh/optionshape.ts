/** The shape of options: the right keys, and values of the right type. What values mean is the configuration's to say. */
import { nearest } from '../config/nearest.ts';
import { quote } from '../config/pointer.ts';

interface Shape {
  /** As in "expected a number". */
  readonly noun: string;
  readonly fits: (value: unknown) => boolean;
  /** Of an object. */
  readonly keys?: Readonly<Record<string, Shape>>;
  /** Of an object whose keys are names that the user chooses. */
  readonly each?: Shape;
  /** Of a list. */
  readonly items?: Shape;
  readonly required?: readonly string[];
  /** Which of several shapes a value that fits shall have. */
  readonly choose?: (value: unknown) => Shape;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): boolean => typeof value === 'string';
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

const TEXT: Shape = { noun: 'a string', fits: isText };
const COUNT: Shape = { noun: 'a whole number', fits: isCount };
const FLAG: Shape = { noun: 'true or false', fits: (value) => typeof value === 'boolean' };
const DURATION: Shape = {
  noun: "milliseconds, or a duration such as '30m'",
  fits: (value) => isText(value) || isCount(value),
};
const TEXTS: Shape = { noun: 'a list of strings', fits: Array.isArray, items: TEXT };

const mapping = (keys: Readonly<Record<string, Shape>>, required: readonly string[] = []): Shape => ({
  noun: 'an object',
  fits: isObject,
  keys,
  required,
});

/** One of two shapes: `other` where `first` does not fit. */
function either(noun: string, first: Shape, other: Shape): Shape {
  const choose = (value: unknown): Shape => (first.fits(value) ? first : other);
  return { noun, fits: (value) => first.fits(value) || other.fits(value), choose };
}

const LIMIT = mapping({ maxRequests: COUNT, windowMs: COUNT, scope: TEXT }, ['maxRequests', 'windowMs']);

const LOGGER: Shape = {
  noun: 'a level, or a logger with the functions debug, info, warn and error',
  fits: (value) =>
    isText(value) ||
    (isObject(value) &&
      ['debug', 'info', 'warn', 'error'].every((level) => typeof value[level] === 'function')),
};

const ADAPTER: Shape = {
  noun: "'stdout', { file: { path } }, or an object with a function `write`",
  fits: (value) =>
    value === 'stdout' ||
    (isObject(value) &&
      (typeof value.write === 'function' || (isObject(value.file) && isText(value.file.path)))),
};

const OPTIONS = mapping(
  {
    serviceId: TEXT,
    port: COUNT,
    host: TEXT,
    keys: either(
      'the path of a folder, or { svid, key, bundle }',
      TEXT,
      mapping({ svid: TEXT, key: TEXT, bundle: TEXT }, ['svid', 'key', 'bundle']),
    ),
    rotation: either(
      'true, false, or { checkInterval, renew }',
      FLAG,
      mapping({ checkInterval: DURATION, renew: FLAG }),
    ),
    security: mapping({
      sessionTimeout: DURATION,
      absoluteLifetime: DURATION,
      postQuantum: TEXT,
      maxSessions: COUNT,
    }),
    rateLimit: either('{ maxRequests, windowMs }, or a list of these', LIMIT, {
      noun: 'a list',
      fits: Array.isArray,
      items: LIMIT,
    }),
    redis: TEXT,
    monitoring: mapping({
      enabled: FLAG,
      adapters: { noun: 'a list of adapters', fits: Array.isArray, items: ADAPTER },
      calls: TEXT,
    }),
    services: {
      noun: "an object such as { greeter: ['127.0.0.1:50051'] }",
      fits: isObject,
      each: either(
        'addresses of mesh ports, or { endpoints, peer, timeout }',
        either('', TEXT, TEXTS),
        mapping({ endpoints: TEXTS, peer: TEXT, timeout: DURATION }, ['endpoints']),
      ),
    },
    app: TEXT,
    allow: {
      noun: "a list such as ['web']",
      fits: Array.isArray,
      items: either(
        'the name of a service, or { peer, methods, action }',
        TEXT,
        mapping({ peer: TEXT, methods: TEXTS, action: TEXT }, ['peer']),
      ),
    },
    probes: mapping({ http: TEXT, grpc: TEXT }),
    admin: TEXT,
    revocationFile: TEXT,
    drainTimeout: DURATION,
    log: LOGGER,
  },
  ['serviceId'],
);

/** Everything about the shape of options that is wrong, a sentence each; `name` is what they are called. */
export function shapeProblems(options: unknown, name = 'options'): string[] {
  const problems: string[] = [];
  check(options, OPTIONS, name, problems);
  return problems;
}

function check(value: unknown, shape: Shape, name: string, problems: string[]): void {
  if (!shape.fits(value)) {
    problems.push(`${name}: expected ${shape.noun}, found ${described(value)}`);
    return;
  }
  const { keys, each, items, required = [] } = chosen(shape, value);
  if (items !== undefined) {
    for (const [i, item] of (value as unknown[]).entries()) check(item, items, `${name}[${i}]`, problems);
  }
  if (!isObject(value)) return;
  for (const key of required) {
    if (value[key] === undefined) problems.push(`${below(name, key)} is missing`);
  }
  for (const [key, own] of Object.entries(value)) {
    const expected = each ?? (keys && Object.hasOwn(keys, key) ? keys[key] : undefined);
    if (expected !== undefined) {
      if (own !== undefined) check(own, expected, below(name, key), problems);
    } else if (keys !== undefined) {
      const near = nearest(key, Object.keys(keys));
      const meant = near === undefined ? `known: ${Object.keys(keys).join(', ')}` : `did you mean ${near}?`;
      problems.push(`${below(name, key)}: no such option; ${meant}`);
    }
  }
}

function chosen(shape: Shape, value: unknown): Shape {
  return shape.choose === undefined ? shape : chosen(shape.choose(value), value);
}

/** `options.security`, or with a name that is no plain word `options.services["a.b"]`. */
export function below(name: string, key: string): string {
  return /^[A-Za-z_]\w*$/.test(key) ? `${name}.${key}` : `${name}[${quote(key)}]`;
}

function described(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  // Text is not shown: it may be a secret that stands in the wrong place.
  return typeof value === 'number' ? `the number ${value}` : `a value of type ${typeof value}`;
}
