/** The commands and their options. docs/cli.md describes them; a test holds the two together. */
import { Command, Option } from 'commander';
import { version } from '../telemetry/version.ts';
import { addAdminCommands } from './admin/commands.ts';
import { addCaptureCommands } from './capturecommands.ts';
import { addDemoAppCommands } from './demoappcommands.ts';
import { Exit } from './exit.ts';
import { duration, endpoint, example } from './optionvalues.ts';
import { printError } from './terminal.ts';

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
    .option(
      '--dir <folder>',
      'where to put it; one folder holds one trust domain, which is never overwritten',
      'keys',
    )
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
    .option(
      '--ttl <duration>',
      "lifetime of the certificate, which never outlasts the CA's (default: 24h)",
      duration,
    )
    .addOption(
      new Option('--key-type <type>', 'kind of the new key').choices(['p256', 'ed25519']).default('p256'),
    )
    .addHelpText('after', example('hauberk issue shop/web --ttl 12h'))
    .action(async (name, options) => (await import('./commands/issue.ts')).issue(name, options));

  root
    .command('run')
    .summary('run a sidecar')
    .description(
      'Run a sidecar until a signal. When it listens it prints one line of JSON that names what was bound. SIGTERM or SIGINT drains it, a second one ends it at once; SIGHUP reads the files of the identity and opens audit files anew.',
    )
    .option('-c, --config <file>', 'its configuration (default: the text of the variable HAUBERK_CONFIG)')
    .addHelpText(
      'after',
      example('hauberk run -c sidecar.yaml', 'HAUBERK_LOG_LEVEL=debug hauberk run -c sidecar.yaml'),
    )
    .action(async (options, command) =>
      (await import('./commands/run.ts')).run(options.config, (what) => misuse(command, what)),
    );

  root
    .command('controller')
    .summary('run the controller of a Kubernetes cluster')
    .description(
      'Run the controller until a signal: it issues identities to pods and injects sidecars into them. When it listens it prints one line of JSON that names what was bound. SIGTERM or SIGINT drains it, a second one ends it at once; SIGHUP looks at the CA and opens audit files anew.',
    )
    .requiredOption('-c, --config <file>', 'its configuration')
    .addHelpText('after', example('hauberk controller -c controller.yaml'))
    .action(async (options) => (await import('./commands/controller.ts')).runController(options.config));

  root
    .command('check-config')
    .summary('check a configuration without running anything')
    .description('Check a configuration, HAUBERK_* variables, and the identity files that it names.')
    .argument('[file]', 'the configuration (default: the text of the variable HAUBERK_CONFIG)')
    .option('-c, --config <file>', 'the same, as `run` has it')
    .option('--no-identity', 'leave the identity files alone')
    .option(
      '--ask-controller',
      'have the controller certify this pod once, where it issues the identity',
      false,
    )
    .addHelpText('after', example('hauberk check-config sidecar.yaml'))
    .action(async (file, options, command) => {
      const { checkConfig } = await import('./commands/checkconfig.ts');
      await checkConfig(file ?? options.config, options, (what) => misuse(command, what));
    });

  root
    .command('wait')
    .summary('wait until a sidecar has started')
    .description(
      "Ask a sidecar's /startupz until it has started. For what must not begin before: the injector has a postStart hook do it where sidecars are not native.",
    )
    .option('--probes <address>', "the sidecar's HTTP probes (default: 127.0.0.1:15020)", endpoint, {
      host: '127.0.0.1',
      port: 15_020,
    })
    .option('--timeout <duration>', 'when to give up (default: 60s)', duration, 60_000)
    .addHelpText('after', example('hauberk wait --probes 127.0.0.1:15020 --timeout 30s'))
    .action(async ({ probes, timeout }) => {
      const { waitForStart } = await import('./commands/wait.ts');
      await waitForStart(probes, timeout);
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

  addDemoAppCommands(root);
  addAdminCommands(root);
  addCaptureCommands(root);
  return root;
}

function misuse(command: Command, what: string): never {
  return command.error(`error: ${what}`, { exitCode: Exit.USAGE });
}
