import { printable } from './pointer.ts';

/** What can be wrong with a configuration. Stable, for programs that load one. */
export type ConfigErrorCode =
  | 'file-unreadable'
  | 'file-too-large'
  | 'not-utf8'
  | 'yaml-syntax'
  | 'alias-limit'
  | 'too-deep'
  | 'duplicate-key'
  | 'unknown-key'
  | 'missing-key'
  | 'wrong-type'
  | 'invalid-value'
  | 'conflict'
  | 'unknown-variable';

/** One thing that is wrong, where, and what to do about it. Never contains the value of a secret key. */
export interface ConfigIssue {
  readonly code: ConfigErrorCode;
  /** Dotted key, e.g. `egress.routes[0].peer`; absent when the whole file is meant. */
  readonly key?: string;
  /** 1-based; absent when the value did not come from the file. */
  readonly line?: number;
  readonly column?: number;
  /** The environment variable that the value came from. */
  readonly variable?: string;
  /** What is wrong and the cure, in one line, without the position. */
  readonly message: string;
}

/** At most this many issues are listed in a message; the rest are counted. */
const LISTED = 50;

/** `file:line:column: message`, or `file: message (from VARIABLE)`. */
export function renderIssue(file: string, issue: ConfigIssue): string {
  const place = issue.line === undefined ? file : `${file}:${issue.line}:${issue.column}`;
  const origin = issue.variable === undefined ? '' : ` (from ${issue.variable})`;
  return `${place}: ${issue.message}${origin}`;
}

/** A configuration that cannot be used. Fatal: nothing of it takes effect. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** Code of the first issue. */
  readonly code: ConfigErrorCode;
  readonly file: string;
  /** In the order of the file; never empty. */
  readonly issues: readonly ConfigIssue[];

  constructor(file: string, given: readonly ConfigIssue[], cause?: unknown) {
    // Parts of values stand in messages; whatever a file holds, a terminal shows it as text.
    const issues = given.map((issue) => ({ ...issue, message: printable(issue.message) }));
    const listed = issues.slice(0, LISTED).map((issue) => renderIssue(file, issue));
    if (issues.length > LISTED) listed.push(`${file}: and ${issues.length - LISTED} more problems`);
    super(listed.join('\n'), cause === undefined ? undefined : { cause });
    this.code = (issues[0] as ConfigIssue).code;
    this.file = file;
    this.issues = issues;
  }
}

/** A scalar that is not what its kind demands. Stays inside this folder: it becomes a `ConfigIssue`. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
}
