/**
 * HTTP and JSON outside, the mesh inside. It stands where attackers are, so its sessions are short: what somebody takes
 * from its memory opens nothing that is older than five minutes. ML-KEM is insisted on.
 */
import { createServer } from 'node:http';
import { CallError, SecureMesh } from 'hauberk';

const address = process.env.PRICES ?? '127.0.0.1:50055';

const mesh = await new SecureMesh({
  serviceId: 'gateway',
  services: { prices: { endpoints: [address], timeout: '2s' } },
  security: {
    sessionTimeout: process.env.SESSION_TIMEOUT ?? '30s',
    absoluteLifetime: process.env.SESSION_LIFETIME ?? '5m',
    postQuantum: 'required',
  },
}).start();
const prices = mesh.connect('prices');

/** The gRPC statuses that an HTTP client can do something about; everything else is our own trouble. */
const HTTP_STATUS: Readonly<Record<string, number>> = {
  INVALID_ARGUMENT: 400,
  NOT_FOUND: 404,
  RESOURCE_EXHAUSTED: 429,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

const server = createServer(async (request, response) => {
  const [, encoded = '', ...rest] = new URL(request.url ?? '/', 'http://gateway').pathname.split('/');
  const answer = (status: number, body: object): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
  };
  if (request.method !== 'GET' || encoded === '' || rest.length > 0)
    return answer(404, { error: 'GET /NAME' });
  const what = decoded(encoded);
  if (what === undefined) return answer(400, { error: 'the name is not UTF-8, percent-encoded' });
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  try {
    answer(
      200,
      await prices.call<{ of: string }, { of: string; cents: number }>(
        'price',
        { of: what },
        { signal: gone.signal },
      ),
    );
  } catch (error) {
    if (!(error instanceof CallError)) {
      console.error(error);
      return answer(500, { error: 'internal error' });
    }
    // What a sidecar or a program says of an error is for us, unless it is about what the client asked for.
    const status = HTTP_STATUS[error.status] ?? 502;
    answer(status, { error: status < 500 ? error.details : error.status.toLowerCase() });
  }
});

server.listen(Number(process.env.HTTP_PORT ?? 8080), '127.0.0.1', () => {
  const { port } = server.address() as { port: number };
  console.log(`the gateway listens on http://127.0.0.1:${port}`);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    server.close();
    server.closeIdleConnections();
    void mesh.cleanup();
  });
}
