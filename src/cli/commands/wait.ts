import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import type { Endpoint } from '../../config/config.ts';
import { Exit } from '../exit.ts';

const EVERY_MS = 200;
const ANSWER_MS = 2000;

/** `hauberk wait`: ends when the sidecar has started. It is a process of its own, so that it may wait by the clock. */
export async function waitForStart({ host, port }: Endpoint, timeoutMs: number): Promise<void> {
  const endsAt = performance.now() + timeoutMs;
  for (;;) {
    const fault = await startFault(host, port);
    if (fault === undefined) return;
    if (performance.now() + EVERY_MS >= endsAt) {
      process.stderr.write(`hauberk: the sidecar at ${host}:${port} has not started: ${fault}\n`);
      process.exitCode = Exit.FAILED;
      return;
    }
    await pause(EVERY_MS);
  }
}

/** What `/startupz` says other than that it has started. */
function startFault(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = request({ host, port, path: '/startupz', agent: false, timeout: ANSWER_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        if (text.length < 1024) text += chunk;
      });
      response.on('close', () =>
        resolve(response.statusCode === 200 ? undefined : text.trim().replaceAll('\n', ' ')),
      );
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    asked.on('error', (error) => resolve(error.message));
    asked.end();
  });
}
