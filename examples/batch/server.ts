/** Resizes pictures, in name only. Callers have a limit each: 20 calls a second. */
import { SecureMeshServer } from 'hauberk';

const server = new SecureMeshServer({
  serviceId: 'resizer',
  allow: ['nightly'],
  rateLimit: { maxRequests: 20, windowMs: 1000, scope: 'peer' },
});

server.handle<{ picture: string }, { picture: string; width: number }>('resize', async ({ picture }) => {
  console.log(`resized ${picture}`);
  return { picture: `${picture}.small`, width: 100 };
});

const port = await server.start(Number(process.env.PORT ?? 50054));
console.log(`the resizer listens on port ${port}`);

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.cleanup());
