import { describe, expect, it } from 'vitest';
import { type MemoryHolder, type MemoryShare, PeerMemory } from '../../src/relay/peermemory.ts';

class Holder implements MemoryHolder {
  octets = 0;
  cuts = 0;
  share: MemoryShare | undefined;

  cut(): void {
    this.cuts++;
    this.octets = 0;
  }

  hold(octets: number): void {
    this.octets = octets;
    this.share?.update();
  }
}

function holders(memory: PeerMemory, peer: string, n: number): Holder[] {
  return Array.from({ length: n }, () => {
    const holder = new Holder();
    holder.share = memory.join(peer, holder);
    return holder;
  });
}

const cuts = (of: Holder[]): number[] => of.map((holder) => holder.cuts);

describe('the memory of a peer', () => {
  it('may be used up; one octet more cuts the connection that holds most, whichever asked', () => {
    const memory = new PeerMemory(100);
    const [a, b, c] = holders(memory, 'web', 3) as [Holder, Holder, Holder];
    a.hold(30);
    b.hold(50);
    c.hold(20);
    expect(cuts([a, b, c])).toEqual([0, 0, 0]);
    c.hold(21);
    expect(cuts([a, b, c])).toEqual([0, 1, 0]);
    // What was cut counts no more, however long it takes to close.
    b.hold(90);
    c.hold(70);
    expect(cuts([a, b, c])).toEqual([0, 1, 0]);
    c.hold(71);
    expect(cuts([a, b, c])).toEqual([0, 1, 1]);
  });

  it('is what is held now, not what was', () => {
    const memory = new PeerMemory(100);
    const [a] = holders(memory, 'web', 1) as [Holder];
    for (let i = 0; i < 100; i++) {
      a.hold(100);
      a.hold(0);
    }
    expect(a.cuts).toBe(0);
  });

  it('is each peer’s own, and is forgotten with its last connection', () => {
    const memory = new PeerMemory(100);
    const web = holders(memory, 'web', 2);
    const shop = holders(memory, 'shop', 1);
    web[0]?.hold(60);
    shop[0]?.hold(60);
    expect(cuts([...web, ...shop])).toEqual([0, 0, 0]);
    for (const { share } of [...web, ...shop]) {
      share?.leave();
      share?.leave();
    }
    expect(memory.size).toBe(0);
    const again = holders(memory, 'web', 1);
    again[0]?.hold(100);
    expect(cuts(again)).toEqual([0]);
  });
});
