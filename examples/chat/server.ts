/**
 * A chat room. Who says something is told by the session, not by the message: nobody can speak in another's name.
 */
import { CallError, SecureMeshServer } from 'hauberk';

interface Line {
  from: string;
  text: string;
}

const MAX_TEXT = 1000; // characters
const MAX_BEHIND = 100; // lines

/** A member who reads too slowly is told so and leaves, instead of filling our memory. */
class Member {
  readonly #lines: Line[] = [];
  #wake: () => void = () => {};
  #left = false;

  say(line: Line): void {
    if (this.#lines.push(line) > MAX_BEHIND) this.leave();
    this.#wake();
  }

  leave(): void {
    this.#left = true;
    this.#wake();
  }

  async *lines(): AsyncGenerator<Line> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) yield line;
      else if (this.#left) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

const room = new Set<Member>();
const tell = (line: Line): void => {
  for (const member of room) member.say(line);
};

const server = new SecureMeshServer({ serviceId: 'chat', allow: ['ada', 'grace'] });

server.handleBidiStream<{ text: string }, Line>('join', async function* (said, context) {
  const from = context.peer.split('/').at(-1) ?? context.peer;
  const member = new Member();
  context.signal.addEventListener('abort', () => member.leave());
  room.add(member);
  tell({ from: 'room', text: `${from} has come` });
  const listening = (async () => {
    try {
      for await (const { text } of said) {
        if (text.length > MAX_TEXT)
          throw new CallError('INVALID_ARGUMENT', `a line has at most ${MAX_TEXT} characters`);
        tell({ from, text });
      }
    } finally {
      member.leave();
    }
  })();
  try {
    yield* member.lines();
    await listening;
  } finally {
    room.delete(member);
    tell({ from: 'room', text: `${from} has gone` });
  }
});

const port = await server.start(Number(process.env.PORT ?? 50052));
console.log(`the room is on port ${port}`);

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.cleanup());
