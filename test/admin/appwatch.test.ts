import { expect, it } from 'vitest';
import { AppWatch } from '../../src/admin/appwatch.ts';
import { FakeClock } from '../harness/fake-clock.ts';

/** An app that a test turns on and off, and that answers when it is told to. */
class App {
  readonly service = 'greeter.shop';
  up = false;
  asked = 0;
  readonly changes: boolean[] = [];
  readonly #waiting: Array<() => void> = [];
  held = false;

  readonly probe = async (): Promise<void> => {
    this.asked++;
    const { up } = this;
    if (this.held) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (!up) throw new Error('ECONNREFUSED');
  };
  readonly onChange = (answers: boolean): void => {
    this.changes.push(answers);
  };

  release(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Promises that are settled are seen by whoever waits for them. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function watching(up = false) {
  const clock = new FakeClock();
  const app = new App();
  app.up = up;
  const watch = new AppWatch(clock, [app]);
  await settle();
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await settle();
  };
  return { clock, app, watch, pass };
}

it('an app that does not answer is asked four times a second, one that does every five seconds', async () => {
  const { app, pass } = await watching();
  for (let i = 0; i < 4; i++) await pass(250);
  expect(app.asked).toBe(5);
  app.up = true;
  await pass(250);
  expect(app.asked).toBe(6);
  await pass(4999);
  expect(app.asked).toBe(6);
  await pass(1);
  expect(app.asked).toBe(7);
});

it('the first answer and every change are told, once', async () => {
  const { app, pass } = await watching();
  await pass(250);
  expect(app.changes).toEqual([false]);
  app.up = true;
  await pass(250);
  await pass(5000);
  expect(app.changes).toEqual([false, true]);
  app.up = false;
  await pass(5000);
  await pass(250);
  expect(app.changes).toEqual([false, true, false]);
});

it('askNow does not wait for the turn of the app', async () => {
  const { app, watch, pass, clock } = await watching(true);
  app.up = false;
  watch.askNow(app);
  await settle();
  expect(app.changes).toEqual([true, false]);
  expect(clock.pending).toBe(1);
  await pass(250);
  expect(app.asked).toBe(3);
});

it('what happens while the app is asked counts: it is asked once more', async () => {
  const { app, watch, pass } = await watching(true);
  app.held = true;
  await pass(5000);
  app.up = false; // the probe under way saw it up
  watch.askNow(app);
  watch.askNow(app);
  app.held = false;
  app.release();
  await settle();
  expect([app.asked, app.changes]).toEqual([3, [true, false]]);
});

it('after close nothing is asked and nothing told', async () => {
  const { app, watch, pass, clock } = await watching(true);
  app.held = true;
  app.up = false;
  await pass(5000);
  watch.close();
  app.release();
  watch.askNow(app);
  await pass(10_000);
  expect([app.asked, app.changes, clock.pending]).toEqual([2, [true], 0]);
});
