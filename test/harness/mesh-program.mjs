// A program that serves methods of a mesh. Arguments: the folder of keys. Says its port, and answers `state`.
import { CallError } from '../../dist/mesh/callerror.js';
import { SecureMeshServer } from '../../dist/mesh/securemeshserver.js';

const live = { open: 0, done: 0, left: 0 };
const server = new SecureMeshServer({
  serviceId: 'greeter',
  keys: process.argv[2],
  host: '127.0.0.1',
  rateLimit: { maxRequests: 500, windowMs: 600_000 },
  log: 'silent',
});
server
  .handle('echo', (value) => value)
  .handle('state', () => live)
  .handle('limits', (_request, { session }) => session.limits)
  .handle('refuse', () => {
    throw new CallError('FAILED_PRECONDITION', 'not today');
  })
  .handleServerStream('count', async function* ({ to }) {
    live.open++;
    try {
      for (let n = 1; n <= to; n++) yield n;
      live.done++;
    } finally {
      live.open--;
      live.left++;
    }
  })
  .handleClientStream('sum', async (numbers) => {
    let sum = 0;
    for await (const number of numbers) sum += number;
    return sum;
  })
  .handleBidiStream('double', async function* (numbers) {
    live.open++;
    try {
      for await (const number of numbers) yield number * 2;
      live.done++;
    } finally {
      live.open--;
      live.left++;
    }
  });
console.log(await server.start());
process.on('SIGTERM', () => server.cleanup());
