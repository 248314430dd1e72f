/** h2spec, the conformance suite of HTTP/2 servers; scripts/install-test-tools.sh installs it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';

export interface Case {
  /** As h2spec numbers it: `http2/6.5.2`. */
  readonly section: string;
  readonly title: string;
  /** What was expected and what came; undefined if it passed. */
  readonly failure: string | undefined;
  readonly skipped: boolean;
}

/** How long it waits for what it expects: long enough for a busy machine. */
const SECONDS = 5;

/** What it puts into `:authority`, before the port. */
export const AUTHORITY = 'localhost';

/** Runs every case, the strict ones too, against an HTTP/2 server without TLS at a port of loopback. */
export async function runH2spec(address: string, report: string): Promise<Case[]> {
  const port = address.slice(address.lastIndexOf(':') + 1);
  const args = ['--strict', '--timeout', `${SECONDS}`, '--host', AUTHORITY, '--port', port];
  args.push('--junit-report', report);
  const child = spawn('h2spec', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  child.stdout.on('data', (octets: Buffer) => output.push(octets));
  child.stderr.on('data', (octets: Buffer) => output.push(octets));
  await once(child, 'close').catch((cause: unknown) => {
    throw new Error('h2spec could not be run; see scripts/install-test-tools.sh', { cause });
  });
  const cases = casesIn(await readFile(report, 'utf8').catch(() => ''));
  if (cases.length === 0) throw new Error(`h2spec made no report:\n${Buffer.concat(output)}`);
  return cases;
}

const CASE = /<testcase package="([^"]*)" classname="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs;

function casesIn(junit: string): Case[] {
  return [...junit.matchAll(CASE)].map(([, section, title, content = '']) => ({
    section: section as string,
    title: title as string,
    failure: /<(?:failure|error)[^>]*>.*/s.exec(content)?.[0],
    skipped: content.includes('<skipped'),
  }));
}
