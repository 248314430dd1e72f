/** The commands and their options. docs/cli.md describes them; a test holds the two together. */
import { Command, Option } from 'commander';
import { addAdminCommands } from './admin/commands.ts';
import { Exit } from './exit.ts';
import { duration, example } from './optionvalues.ts';
import { printError } from './terminal.ts';
import { version } from './version.ts';

export function program(): Command {
  const root = new Command('hauberk')
    .description('A secure gRPC sidecar: encrypted, mutually authenticated sessions between services.')
    .version(version(), '-V, --version')
    .exitOverride()
    .configureOutput({ writeErr: (text) => printError(text.trimEnd()) })
    .showHelpAfterError('(--help shows what there is)')
    .addHelpText(
      'after',
      example(
        'hauberk demo',
        'hauberk init --trust-domain shop.example',
        'hauberk issue shop/web',
        'hauberk run -c sidecar.yaml',
      ),
    );

  root
    .command('init')
    .summary('make a trust domain: its CA key and its bundle')
    .description(
      'Make a trust domain in a folder: ca.key, with which identities are issued, and bundle.pem, by which sidecars know them.',
    )
    .requiredOption('--trust-domain <domain>', 'its name, a DNS name')
    .option('--dir <folder>', 'where to put it; one folder holds one trust domain', 'keys')
    .option('--ttl <duration>', 'lifetime of the CA certificate (default: 1825d)', duration)
    .addHelpText('after', example('hauberk init --trust-domain shop.example --dir keys'))
    .action(async (options) => (await import('./commands/init.ts')).init(options));

  root
    .command('issue')
    .argument('<name>', 'NAME, NAMESPACE/NAME or a whole SPIFFE ID')
    .summary('issue an identity of a trust domain')
    .description(
      'Issue an identity, a SPIFFE X.509-SVID and its key, into the folder of `hauberk init`. Issuing a name again replaces its files.',
    )
    .option('--dir <folder>', 'the folder of `hauberk init`', 'keys')
    .option('--ttl <duration>', 'lifetime of the certificate (default: 24h)', duration)
    .addOption(
      new Option('--key-type <type>', 'kind of the new key').choices(['p256', 'ed25519']).default('p256'),
    )
    .addHelpText('after', example('hauberk issue shop/web --ttl 12h'))
    .action(async (name, options) => (await import('./commands/issue.ts')).issue(name, options));

  root
    .command('run')
    .summary('run a sidecar')
    .description(
      'Run a sidecar until a signal. When it listens it prints one line of JSON that names what was bound. SIGTERM or SIGINT drains it, a second one ends it at once; SIGHUP opens audit files anew.',
    )
    .requiredOption('-c, --config <file>', 'its configuration')
    .addHelpText(
      'after',
      example('hauberk run -c sidecar.yaml', 'HAUBERK_LOG_LEVEL=debug hauberk run -c sidecar.yaml'),
    )
    .action(async (options) => (await import('./commands/run.ts')).run(options.config));

  root
    .command('check-config')
    .summary('check a configuration without running anything')
    .description('Check a configuration, HAUBERK_* variables, and the identity files that it names.')
    .argument('[file]', 'the configuration')
    .option('-c, --config <file>', 'the same, as `run` has it')
    .option('--no-identity', 'leave the identity files alone')
    .addHelpText('after', example('hauberk check-config sidecar.yaml'))
    .action(async (file, options, command) => {
      const path = file ?? options.config;
      if (path === undefined) {
        command.error('error: name the configuration to check, as in `hauberk check-config sidecar.yaml`', {
          exitCode: Exit.USAGE,
        });
      }
      await (await import('./commands/checkconfig.ts')).checkConfig(path, options.identity);
    });

  root
    .command('demo')
    .summary('send real calls through two sidecars and show what happens')
    .description(
      'Make a trust domain in a temporary folder, start a gRPC server, two sidecars and a client, send calls of all kinds through them, and show what happens.',
    )
    .option('--keep', 'leave it running, with addresses to try', false)
    .addHelpText('after', example('hauberk demo --keep'))
    .action(async ({ keep }) => {
      const { demo } = await import('./demo/demo.ts');
      process.exitCode = await demo({ keep });
    });

  addAdminCommands(root);
  return root;
}
