/** What stands behind the gateway. Only the gateway may call it. */
import { CallError, SecureMeshServer } from 'hauberk';

const PRICES: Readonly<Record<string, number>> = { apple: 30, pear: 40 };

const server = new SecureMeshServer({
  serviceId: 'prices',
  allow: [{ peer: 'gateway', methods: ['price'] }],
});

server.handle<{ of: string }, { of: string; cents: number }>('price', async ({ of }, { session }) => {
  const cents = Object.hasOwn(PRICES, of) ? PRICES[of] : undefined;
  if (cents === undefined) throw new CallError('NOT_FOUND', `nothing is known of ${JSON.stringify(of)}`);
  console.log(`price of ${of} in session ${session.id}`);
  return { of, cents };
});

const port = await server.start(Number(process.env.PORT ?? 50055));
console.log(`prices listens on port ${port}`);

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.cleanup());
