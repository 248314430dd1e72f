/** `tsx client.ts ada`: says each line of its standard input, and prints what the room says, until its input ends. */
import { createInterface } from 'node:readline';
import { CallError, SecureMesh } from 'hauberk';

const name = process.argv[2] ?? 'ada';
const address = process.env.CHAT ?? '127.0.0.1:50052';

const input = createInterface({ input: process.stdin });

async function* typed(): AsyncGenerator<{ text: string }> {
  for await (const text of input) yield { text };
}

await using mesh = await new SecureMesh({ serviceId: name, services: { chat: address } }).start();
try {
  const lines = mesh
    .connect('chat')
    .bidiStream<{ text: string }, { from: string; text: string }>('join', typed());
  for await (const { from, text } of lines) console.log(`${from}: ${text}`);
} catch (error) {
  if (!(error instanceof CallError)) throw error;
  console.error(`the room is closed to ${name}: ${error.details}`);
  process.exitCode = 1;
} finally {
  input.close();
}
