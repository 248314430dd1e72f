/** The apps of the demo by themselves: what helm/hauberk-demo and deploy/compose run. */
import { type Command, InvalidArgumentError } from 'commander';
import { Exit } from './exit.ts';
import { duration, example } from './optionvalues.ts';

export function addDemoAppCommands(root: Command): void {
  const apps = root
    .command('demo-app')
    .summary('the apps of the demo, each by itself')
    .description(
      'A gRPC server and a client that know nothing of Hauberk, to be put behind sidecars: helm/hauberk-demo and deploy/compose run them.',
    );

  apps
    .command('server')
    .summary('serve the Greeter of the demo, in plaintext')
    .description(
      'Serve hauberk.demo.v1.Greeter, RouteGuide and grpc.health.v1 in plaintext until a signal. Greeter tells callers what its sidecar says of them.',
    )
    .option('--listen <host:port>', 'where', hostAndPort, '127.0.0.1:50051')
    .addHelpText('after', example('hauberk demo-app server --listen 127.0.0.1:50051'))
    .action(async ({ listen }) => (await import('./demo/app.ts')).serveDemo(listen));

  apps
    .command('client')
    .summary('call the Greeter of the demo, again and again')
    .description(
      'Call hauberk.demo.v1.Greeter until a signal, and print what it says: who the client has proved to be, by which session, or that nobody has. The exit code is 1 if a call failed or came in plaintext.',
    )
    .requiredOption(
      '--target <host:port>',
      'whom; the environment may name a proxy, as `grpc_proxy`',
      hostAndPort,
    )
    .option('--name <name>', 'for whom it is to greet', 'web')
    .option('--every <duration>', 'time between two calls (default: 1s)', duration, 1000)
    .option('--count <calls>', 'how many calls; 0 for as many as there is time for', calls, 0)
    .addHelpText('after', example('hauberk demo-app client --target greeter.hauberk-demo:50051'))
    .action(async (options) => {
      const good = await (await import('./demo/app.ts')).callDemo(options);
      if (!good) process.exitCode = Exit.FAILED;
    });
}

function calls(text: string): number {
  if (!/^[0-9]{1,9}$/.test(text)) throw new InvalidArgumentError('Expected a whole number.');
  return Number(text);
}

function hostAndPort(text: string): string {
  const port = /^(?:\[[0-9a-fA-F:]+\]|[\w.-]+):([0-9]{1,5})$/.exec(text)?.[1];
  if (port === undefined || Number(port) > 65_535) {
    throw new InvalidArgumentError('Expected host:port, as in greeter.shop:50051.');
  }
  return text;
}
