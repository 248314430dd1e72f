/** The commands that talk to a running sidecar, and the options that all of them have. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { duration, example } from '../optionvalues.ts';
import { DEFAULT_ADDRESS } from './defaultaddress.ts';

const ORDERS = ['last-used', 'created', 'expires', 'calls', 'open-calls', 'bytes'];

export function addAdminCommands(root: Command): void {
  targeted(root.command('status'))
    .summary('show how a sidecar is')
    .description(
      'Show a running sidecar: whether it is ready, its identity, listeners, sessions and audit adapters.',
    )
    .addHelpText('after', example('hauberk status', 'hauberk status -c sidecar.yaml -o json'))
    .action(async (options) => (await import('../commands/status.ts')).status(options));

  const sessions = root
    .command('sessions')
    .summary('see and steer the sessions of a sidecar')
    .description('See and steer the sessions of a running sidecar.')
    .addHelpText('after', example('hauberk sessions list', 'hauberk sessions watch -o json'));

  filtered(targeted(sessions.command('list')))
    .summary('list sessions')
    .description('List sessions, those first that were not used for longest.')
    .addOption(new Option('--order <order>', 'what to sort by').choices(ORDERS).default('last-used'))
    .option('--reverse', 'the other way round', false)
    .option('--limit <count>', 'at most so many', count, 500)
    .addHelpText(
      'after',
      example(
        'hauberk sessions list',
        "hauberk sessions list --peer 'spiffe://shop.example/ns/*/sa/web' --order bytes --reverse",
      ),
    )
    .action(async (options) => (await import('../commands/sessions.ts')).listSessions(options));

  targeted(sessions.command('show'))
    .argument('<id>', 'the session')
    .summary('show one session')
    .description('Show one session, with its counters and metadata.')
    .addHelpText('after', example('hauberk sessions show 0190a1b2-c3d4-8e5f-9a0b-1c2d3e4f5a6b'))
    .action(async (id, options) => (await import('../commands/sessions.ts')).showSession(id, options));

  filtered(targeted(sessions.command('revoke')))
    .argument('[id...]', 'the sessions; or options that say which')
    .summary('end sessions at once')
    .description(
      'End sessions at once, by their ids, by what they are (options that must all hold), or all. Shows for each what was accepted until then, and how long the cut took.',
    )
    .requiredOption('--reason <text>', 'why, for the audit; the peer is told only that it was revoked')
    .option('--all', 'every session', false)
    .option('--block', 'the peers may not return until `hauberk peers allow`', false)
    .addHelpText(
      'after',
      example(
        "hauberk sessions revoke 0190a1b2-c3d4-8e5f-9a0b-1c2d3e4f5a6b --reason 'laptop lost'",
        "hauberk sessions revoke --metadata tenant=acme --block --reason 'contract over'",
      ),
    )
    .action(async (ids, options) => (await import('../commands/revoke.ts')).revokeSessions(ids, options));

  targeted(sessions.command('trace'))
    .argument('<id>', 'the session')
    .addArgument(sessions.createArgument('<state>', 'on or off').choices(['on', 'off']))
    .summary("log a session's frames")
    .description(
      "Log the frames of a session, or no longer: types, flags, streams and lengths, never what they carry. The lines are in the sidecar's log.",
    )
    .addHelpText('after', example('hauberk sessions trace 0190a1b2-c3d4-8e5f-9a0b-1c2d3e4f5a6b on'))
    .action(async (id, state, options) =>
      (await import('../commands/sessions.ts')).traceSession(id, state, options),
    );

  targeted(sessions.command('watch'))
    .summary('show what becomes of sessions, as it happens')
    .description('Show the audit events of sessions, `session.*`, as they happen, until Ctrl-C.')
    .option('--session <id>', 'only of this session')
    .option('--peer <spiffe-id>', 'only of this peer')
    .option('--count <count>', 'end after so many', count)
    .addHelpText('after', example('hauberk sessions watch'))
    .action(async (options) => (await import('../commands/events.ts')).events(options, ['session.*']));

  const peers = root
    .command('peers')
    .summary('keep peers out of a sidecar')
    .description('Keep peers out of a running sidecar, by their SPIFFE IDs.')
    .addHelpText('after', example('hauberk peers blocked'));

  targeted(peers.command('blocked'))
    .summary('list the peers that are blocked')
    .description('List the peers that are blocked, the longest blocked first.')
    .addHelpText('after', example('hauberk peers blocked'))
    .action(async (options) => (await import('../commands/peers.ts')).listBlocked(options));

  targeted(peers.command('block'))
    .argument('<spiffe-id>', 'the peer')
    .summary('block a peer')
    .description(
      'Cut the sessions of a peer and refuse its handshakes, and calls to it, until it is allowed again.',
    )
    .requiredOption('--reason <text>', 'why, for the audit; the peer is told only that it was revoked')
    .addHelpText(
      'after',
      example("hauberk peers block spiffe://shop.example/ns/shop/sa/web --reason 'key leaked'"),
    )
    .action(async (peer, options) => (await import('../commands/peers.ts')).blockPeer(peer, options));

  targeted(peers.command('allow'))
    .argument('<spiffe-id>', 'the peer')
    .summary('let a blocked peer in again')
    .description('Let a blocked peer in again.')
    .addHelpText('after', example('hauberk peers allow spiffe://shop.example/ns/shop/sa/web'))
    .action(async (peer, options) => (await import('../commands/peers.ts')).allowPeer(peer, options));

  targeted(root.command('events'))
    .summary('show audit events, as they happen')
    .description('Show the audit events of a running sidecar as they happen, until Ctrl-C.')
    .option('--type <type>', 'only these: a type, or a group such as session.*; may be repeated', collect)
    .option('--session <id>', 'only about this session')
    .option('--peer <spiffe-id>', 'only about this peer')
    .option('--count <count>', 'end after so many', count)
    .addHelpText(
      'after',
      example('hauberk events', "hauberk events --type 'call.*' --type flood.detected -o json"),
    )
    .action(async (options) => (await import('../commands/events.ts')).events(options));

  targeted(root.command('drain'))
    .summary('begin the graceful end of a sidecar')
    .description(
      'Begin the graceful end: not ready, nothing new is accepted, calls under way may finish. There is no way back; the process stays until it gets a signal.',
    )
    .option('--deadline <duration>', 'how long calls under way have (default: drain.deadline)', duration)
    .addHelpText('after', example('hauberk drain --deadline 10s'))
    .action(async (options) => (await import('../commands/drain.ts')).drain(options));
}

/** Which sidecar, and how the answer is shown. */
function targeted(command: Command): Command {
  return command
    .option(
      '--address <address>',
      `its admin listener, unix:/path or 127.0.0.1:port (default: ${DEFAULT_ADDRESS})`,
    )
    .option('-c, --config <file>', 'take address and token from the configuration of the sidecar')
    .option('--token <file>', 'the file of admin.token, for a listener on loopback')
    .option('--timeout <duration>', 'how long to wait for an answer (default: 10s)', duration, 10_000)
    .addOption(
      new Option('-o, --output <format>', 'how to show it').choices(['table', 'json']).default('table'),
    );
}

function filtered(command: Command): Command {
  return command
    .option('--peer <glob>', 'of these peers: a SPIFFE ID, in which * is any run of characters but /')
    .option('--service <name>', 'opened for this service')
    .addOption(
      new Option('--direction <direction>', 'who opened it: the peer, or this sidecar').choices([
        'inbound',
        'outbound',
      ]),
    )
    .option('--state <state>', 'in this state; may be repeated', collect)
    .option('--metadata <key=value>', 'with this metadata; may be repeated', collectPairs)
    .option('--older-than <duration>', 'at least so old', duration)
    .option('--idle-for <duration>', 'not used for so long, and without a call', duration);
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

function collectPairs(value: string, before: Record<string, string> | undefined): Record<string, string> {
  const at = value.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Expected key=value.');
  return { ...before, [value.slice(0, at)]: value.slice(at + 1) };
}

function count(text: string): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : 0;
  if (value < 1) throw new InvalidArgumentError('Expected a whole number from 1 on.');
  return value;
}
