#!/usr/bin/env node
/** argv in, exit code out. Each command loads what it needs when it runs, so that `run` stays small. */
import { Command, CommanderError, Option } from 'commander';
import { Exit, exitCodeOf } from './exit.ts';
import { printError } from './terminal.ts';
import { version } from './version.ts';

function program(): Command {
  const root = new Command('hauberk')
    .description('A secure gRPC sidecar: encrypted, mutually authenticated sessions between services.')
    .version(version(), '-V, --version')
    .exitOverride()
    .configureOutput({ writeErr: (text) => printError(text.trimEnd()) })
    .showHelpAfterError('(try --help)');

  root
    .command('init')
    .description('make a trust domain: its CA key and its bundle')
    .requiredOption('--trust-domain <domain>', 'e.g. shop.example')
    .option('--dir <folder>', 'where to put them', 'keys')
    .option('--ttl <duration>', 'lifetime of the CA certificate, e.g. 365d')
    .action(async (options) => (await import('./commands/init.ts')).init(options));

  root
    .command('issue')
    .argument('<name>', 'NAME, NAMESPACE/NAME or a whole SPIFFE ID')
    .description('issue an identity (SPIFFE X.509-SVID) of the trust domain in a folder')
    .option('--dir <folder>', 'the folder of `hauberk init`', 'keys')
    .option('--ttl <duration>', 'lifetime of the certificate, e.g. 12h (default: 24h)')
    .addOption(
      new Option('--key-type <type>', 'kind of the new key').choices(['p256', 'ed25519']).default('p256'),
    )
    .action(async (name, options) => (await import('./commands/issue.ts')).issue(name, options));

  root
    .command('run')
    .description('run a sidecar; prints one line of JSON when it is ready')
    .requiredOption('-c, --config <file>', 'its configuration, e.g. sidecar.yaml')
    .action(async (options) => (await import('./commands/run.ts')).run(options.config));

  root
    .command('check-config')
    .description('check a configuration, and the identity files it names, without running anything')
    .argument('[file]', 'the configuration')
    .option('-c, --config <file>', 'the same, as `run` has it')
    .option('--no-identity', 'leave the identity files alone')
    .action(async (file, options, command) => {
      const path = file ?? options.config;
      if (path === undefined)
        command.error('error: name the configuration to check', { exitCode: Exit.USAGE });
      await (await import('./commands/checkconfig.ts')).checkConfig(path, options.identity);
    });

  root
    .command('demo')
    .description('make a trust domain and send real calls through two sidecars; shows what happens')
    .option('--keep', 'leave it running, with addresses to try', false)
    .action(async ({ keep }) => {
      const { demo } = await import('./demo/demo.ts');
      if (!(await demo({ keep }))) process.exitCode = Exit.FAILED;
    });

  return root;
}

async function main(): Promise<void> {
  try {
    await program().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version are no errors; everything else that commander throws is a wrong command line.
      process.exitCode = error.exitCode === 0 ? Exit.OK : Exit.USAGE;
      return;
    }
    const { message, stack } = error as Error;
    const code = exitCodeOf(error);
    printError(code === Exit.FAILED ? `hauberk: ${stack ?? message}` : `hauberk: ${message}`);
    process.exitCode = code;
  }
}

await main();
