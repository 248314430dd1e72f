/** The commands that make, remove and show the rules of transparent mode. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { example } from './optionvalues.ts';

const LONGEST_WAIT_S = 600;

export function addCaptureCommands(root: Command): void {
  const capture = root
    .command('capture')
    .summary('have the traffic of apps come to their sidecar by itself')
    .description(
      'Transparent mode: rules of iptables in the network namespace of this process, by which what the app calls comes to its sidecar. For an init container of the image hauberk-capture; needs the capabilities NET_ADMIN and NET_RAW.',
    )
    .addHelpText('after', example('hauberk capture install --redirect 50051=15101 --inbound-ports 50051'));

  withTables(capture.command('install'))
    .summary('redirect ports of the app to its sidecar')
    .description(
      'Redirect connections that the app opens to these ports to the listeners of its sidecar, and refuse plaintext from other hosts to the ports that it serves. What was installed before is replaced; rules of others stay.',
    )
    .option('--redirect <port=listener>', 'a port, and the port of the listener that takes it', each)
    .option('--uid <uid>', "the sidecar's user, whose connections are left alone", '15008')
    .option('--inbound-ports <ports>', 'ports of the app that only its sidecar may reach', each)
    .option('--skip-ports <ports>', 'destination ports that are not redirected', each)
    .option('--skip-subnets <subnets>', 'destinations that are not redirected', each)
    .option('--skip-users <uids>', 'users whose connections are left alone', each)
    .option(
      '--dry-run',
      'print what a first installation would give to iptables-restore, and change nothing',
      false,
    )
    .addHelpText(
      'after',
      example(
        'hauberk capture install --redirect 50051=15101 --redirect 50052=15102 --inbound-ports 50051',
        'hauberk capture install --redirect 50051=15101 --skip-subnets 10.9.0.0/16,fd09::/48 --dry-run',
      ),
    )
    .action(async (options) => (await import('./commands/capture.ts')).installCapture(options));

  withTables(capture.command('remove'))
    .summary('take the rules of `capture install` away')
    .description('Take everything of `hauberk capture install` away, of both kinds of iptables.')
    .option('--dry-run', 'print what iptables-restore would be given, and change nothing', false)
    .addHelpText('after', example('hauberk capture remove'))
    .action(async (options) => (await import('./commands/capture.ts')).removeCapture(options));

  withTables(capture.command('show'))
    .summary('show the rules of `capture install`')
    .description('Show the rules of `hauberk capture install` that are there, of both kinds of iptables.')
    .addHelpText('after', example('hauberk capture show'))
    .action(async (options) => (await import('./commands/capture.ts')).showCapture(options));
}

function withTables(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--backend <kind>',
        'which iptables: the one that has rules here, nft before legacy; or this',
      )
        .choices(['auto', 'nft', 'legacy'])
        .default('auto'),
    )
    .addOption(
      new Option('--ipv6 <when>', 'IPv6 too: where it has addresses; or this')
        .choices(['auto', 'on', 'off'])
        .default('auto'),
    )
    .option(
      '--wait <seconds>',
      "how long to wait for another program's lock of the tables (default: 5)",
      seconds,
      5,
    );
}

/** Options that may be given several times. */
function each(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function seconds(text: string): number {
  const value = /^[0-9]{1,3}$/.test(text) ? Number(text) : -1;
  if (value < 1 || value > LONGEST_WAIT_S)
    throw new InvalidArgumentError(`Expected seconds, from 1 to ${LONGEST_WAIT_S}.`);
  return value;
}
