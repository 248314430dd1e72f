import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { type Block, treatmentOf } from './docpage.ts';
import { commandsOf, matchOutput, type Shown, transcriptOf } from './doctranscript.ts';

/** What any command may take, ms: only one that hangs ever meets it. */
const PATIENCE = 60_000;

/** A command under way, the leader of a process group of its own. */
class Running {
  readonly #child: ChildProcess;
  readonly ended: Promise<number>;
  /** What it printed and no block has shown yet, standard error included, in the order in which it came. */
  printed = '';
  code: number | undefined;
  #onChange: (() => void) | undefined;

  constructor(script: string, cwd: string, env: NodeJS.ProcessEnv) {
    const child = spawn('bash', ['-c', script], {
      cwd,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#child = child;
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.printed += text;
      this.#onChange?.();
    });
    this.ended = once(child, 'close').then(([code, signal]) => {
      const ended = (code as number | null) ?? (signal === null ? -1 : 128);
      this.code = ended;
      this.#onChange?.();
      return ended;
    });
  }

  /** Waits until something holds, or the command ends, or patience does. */
  async until(holds: () => boolean): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE);
      this.#onChange = () => {
        if (holds() || this.code !== undefined) resolve();
      };
      this.#onChange();
    });
    clearTimeout(timer);
    this.#onChange = undefined;
  }

  signal(name: NodeJS.Signals): void {
    try {
      process.kill(-this.#child.pid!, name);
    } catch {
      // The group is gone.
    }
  }

  async end(): Promise<void> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), 2_000);
    await this.ended;
    clearTimeout(timer);
    // What its leader has left behind.
    this.signal('SIGKILL');
  }
}

/** Does what a reader of one page does: writes its files, runs its commands in order, compares what they print. */
export class PageRun {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #running: Running[] = [];
  readonly #terminals = new Map<string, Running>();

  /** `folder` is made; `commands` goes before PATH. */
  constructor(folder: string, commands: string) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.#env = {
      PATH: `${commands}:${process.env.PATH}`,
      HOME: folder,
      LANG: 'C.UTF-8',
      NO_COLOR: '1',
      // A machine that is busy with other tests must not make a sidecar refuse its peers.
      HAUBERK_HANDSHAKE_MAX_EVENT_LOOP_LAG: '10s',
      DOC_STATE: `${folder}.state`,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      TMPDIR: process.env.TMPDIR,
      npm_config_update_notifier: 'false',
    };
  }

  /** Throws with the block's line where something is not as the page says. */
  async play(block: Block): Promise<void> {
    const file = block.words.get('file');
    if (file !== undefined) {
      const path = join(this.#folder, file);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, block.text);
    }
    if (treatmentOf(block) !== 'run') return;
    if (block.language === 'sh') {
      for (const command of commandsOf(block.text)) await this.#command(block, { command, output: ['…'] });
      return;
    }
    const shown = transcriptOf(block.text);
    const terminal = block.words.get('terminal');
    for (const one of shown) {
      if (
        terminal === undefined ||
        (one !== shown.at(-1) && one.command !== '^C' && one.command !== undefined)
      )
        await this.#command(block, one);
      else await this.#inTerminal(block, terminal, one);
    }
  }

  /** Ends what still runs. */
  async end(): Promise<void> {
    await Promise.all(this.#running.map((running) => running.end()));
  }

  async #command(block: Block, { command, output }: Shown): Promise<void> {
    const text = command as string;
    if (text.endsWith(' &')) {
      const running = this.#start(text.slice(0, -2));
      await running.until(() => running.printed.includes('\n'));
      if (running.code !== undefined && running.code !== 0) complain(block, text, [], running);
      return;
    }
    const running = this.#start(text);
    await running.until(() => false);
    const expected = Number(block.words.get('exit') ?? 0);
    if (running.code !== expected || matchOutput(output, running.printed, true) === -1)
      complain(block, text, output, running);
  }

  /** A command that goes on: what is shown of it is what it has printed first, or next. */
  async #inTerminal(block: Block, terminal: string, { command, output }: Shown): Promise<void> {
    if (command !== undefined && command !== '^C') this.#terminals.set(terminal, this.#start(command));
    const running = this.#terminals.get(terminal);
    if (running === undefined) throw new Error(`line ${block.line}: nothing runs in terminal ${terminal}`);
    if (command === '^C') {
      running.signal('SIGINT');
      await running.until(() => false);
      if (running.code === undefined || matchOutput(output, running.printed, true) === -1)
        complain(block, command, output, running);
      return;
    }
    const length = () => matchOutput(output, running.printed, false);
    await running.until(() => length() !== -1);
    if (length() === -1 || (running.code ?? 0) !== 0) complain(block, command ?? terminal, output, running);
    running.printed = running.printed.slice(length());
  }

  /** Each command has a shell of its own; the folder and exported variables go on from the one before. */
  #start(command: string): Running {
    const script = [
      '[ ! -e "$DOC_STATE" ] || . "$DOC_STATE"',
      `trap '{ export -p; printf "cd %q\\n" "$PWD"; } >"$DOC_STATE"' EXIT`,
      'exec 2>&1',
      command,
    ].join('\n');
    const running = new Running(script, this.#folder, this.#env);
    this.#running.push(running);
    return running;
  }
}

function complain(block: Block, command: string, output: readonly string[], running: Running): never {
  throw new Error(
    [
      `line ${block.line}: ${command}`,
      ...(output.length === 0 ? [] : ['the page shows:', ...output.map((line) => `    ${line}`)]),
      running.code === undefined
        ? 'it has not ended, and has printed:'
        : `it ended with ${running.code}, and printed:`,
      ...running.printed.split('\n').map((line) => `    ${line}`),
    ].join('\n'),
  );
}

/** What a sidecar listens on by default, unless its file says something else. */
const DEFAULT_PORTS = [15001, 15008, 15020, 15021];

/** The ports that a page's files and commands name. */
export function portsOf(blocks: readonly Block[]): number[] {
  const used = blocks.filter((block) => treatmentOf(block) === 'run' || block.words.has('file'));
  const named = used.flatMap(({ text }) =>
    [
      ...text.matchAll(
        /(?:\d\.\d\.\d\.\d|localhost|\])["']?:(\d{4,5})\b|(?:\bport\b|\.start)[:= (]+(\d{4,5})\b/g,
      ),
    ].map((match) => Number(match[1] ?? match[2])),
  );
  const runs = used.some(({ text }) => /\bhauberk run\b/.test(text));
  return [...new Set([...named, ...(runs ? DEFAULT_PORTS : [])])];
}

/** Those of them that another program has. */
export async function takenPorts(ports: readonly number[]): Promise<number[]> {
  const taken: number[] = [];
  for (const port of ports) {
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '0.0.0.0', () => resolve(true));
    });
    if (free) await new Promise((resolve) => server.close(resolve));
    else taken.push(port);
  }
  return taken;
}
