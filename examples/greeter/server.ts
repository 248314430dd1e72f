/** A service in five lines: whoever is of the trust domain may call it, over an encrypted session. */
import { SecureMeshServer } from 'hauberk';

interface GreetRequest {
  name: string;
}

const server = new SecureMeshServer('greeter', './keys', { maxRequests: 1000, windowMs: 60_000 });

server.handle<GreetRequest, { message: string; session: string }>('greet', async ({ name }, context) => ({
  message: `Hello ${name}! You are ${context.peer}.`,
  session: context.session.id,
}));

const port = await server.start(Number(process.env.PORT ?? 50051));
console.log(`greeter listens on port ${port}`);

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.cleanup());
