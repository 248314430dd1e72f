import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** Debian's redis-server, in a folder of its own, without persistence. Without it a test fails. */
export class RedisServer {
  readonly port: number;
  readonly #folder: string;
  readonly #password: string | undefined;
  #process: ChildProcess | undefined;

  constructor(port: number, folder: string, password?: string) {
    this.port = port;
    this.#folder = folder;
    this.#password = password;
  }

  async start(): Promise<void> {
    const options = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.#folder, '--save', ''];
    if (this.#password !== undefined) options.push('--requirepass', this.#password);
    const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#process = child;
    child.stdout!.setEncoding('utf8');
    for await (const text of child.stdout!.iterator({ destroyOnReturn: false })) {
      if (String(text).includes('Ready to accept connections')) break;
    }
    child.stdout!.resume();
  }

  /** Stops answering, with its connections open. */
  hang(): void {
    this.#process?.kill('SIGSTOP');
  }

  goOn(): void {
    this.#process?.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
}
