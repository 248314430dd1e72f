/** Calls the greeter, and shows the session that the calls share. */
import { SecureMesh } from 'hauberk';

const address = process.env.GREETER ?? '127.0.0.1:50051';

await using mesh = await new SecureMesh({ serviceId: 'web', services: { greeter: address } }).start();
const greeter = mesh.connect('greeter');

for (const name of ['Ada', 'Grace', 'Barbara']) {
  const { message, session } = await greeter.call<{ name: string }, { message: string; session: string }>(
    'greet',
    {
      name,
    },
  );
  console.log(`${message} (session ${session})`);
}

const { sessions, calls } = mesh.getStats();
console.log(`${calls.outgoing.ended} calls over ${sessions.activeSessions} session`);
