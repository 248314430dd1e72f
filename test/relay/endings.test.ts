import { afterEach, describe, expect, it } from 'vitest';
import { E, goaway } from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, Rig } from './relayrig.ts';

let rig: Rig;
afterEach(() => rig.close());

describe('a connection that we opened', () => {
  it('tells the other side why it is closed, though nothing else is under way', async () => {
    rig = new Rig();
    await rig.request(1);
    const app = await rig.accept();
    app.send(answer(1));
    await settled();
    app.told();
    rig.close();
    expect(app.told()).toEqual(['GOAWAY 0 NO_ERROR shutdown']);
    expect(app.closed).toBe(true);
  });

  it('ends for what its other side said before it went', async () => {
    rig = new Rig();
    await rig.request(1, 'under way');
    const app = await rig.accept();
    app.send(goaway(1, E.NO_ERROR, 'maintenance'));
    await settled();
    expect(rig.ends).toEqual([]);
    app.cut('peer-closed');
    expect(rig.ends).toEqual([['peer-closed', 'GOAWAY: maintenance']]);
  });
});
