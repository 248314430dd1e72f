import { describe, expect, it } from 'vitest';
import { CaptureError } from '../../src/capture/errors.ts';
import { type CaptureOptions, planOf } from '../../src/capture/plan.ts';
import { parseSubnet } from '../../src/capture/subnet.ts';

const given = (over: Partial<CaptureOptions>): CaptureOptions => ({
  uid: '15008',
  redirect: ['50051=15101'],
  ...over,
});

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(CaptureError);
    expect((error as CaptureError).code).toBe('bad-input');
    return (error as CaptureError).message;
  }
  throw new Error('it was taken');
}

describe('a capture', () => {
  it('is what its options say, given one by one or with commas', () => {
    const plan = planOf({
      uid: '15008',
      redirect: ['50051=15101, 50052=15102', '50053=15103'],
      inboundPorts: ['50051', '50060-50069'],
      skipPorts: ['50069'],
      skipSubnets: ['10.1.2.3/8', 'FD00::1:2/112'],
      skipUsers: ['0,1000'],
    });
    expect(plan).toEqual({
      uid: 15008,
      redirects: [
        { port: 50051, to: 15101 },
        { port: 50052, to: 15102 },
        { port: 50053, to: 15103 },
      ],
      inbound: [
        { first: 50051, last: 50051 },
        { first: 50060, last: 50069 },
      ],
      skipPorts: [{ first: 50069, last: 50069 }],
      skipSubnets: [
        { family: 4, text: '10.0.0.0/8' },
        { family: 6, text: 'fd00::1:0/112' },
      ],
      skipUsers: [0, 1000],
    });
  });

  it.each<[what: string, options: Partial<CaptureOptions>, says: RegExp]>([
    ['nothing', { redirect: [] }, /^there is nothing to capture: name the ports/],
    ['a port without a listener', { redirect: ['50051'] }, /"50051": expected a port and the listener/],
    ['two listeners in one', { redirect: ['50051=15101=2'] }, /expected a port and the listener/],
    ['port 0', { redirect: ['0=15101'] }, /a port is a number from 1 to 65535/],
    ['port 65536', { inboundPorts: ['65536'] }, /--inbound-ports "65536": a port is a number/],
    ['a port with a sign', { redirect: ['+50051=15101'] }, /a port is a number/],
    ['no port at all', { inboundPorts: [''] }, /--inbound-ports "": a port is a number/],
    ['a name', { skipPorts: ['http'] }, /--skip-ports "http": a port is a number/],
    ['a range that ends first', { skipPorts: ['20-10'] }, /the range ends before it begins/],
    ['a range of three', { skipPorts: ['1-2-3'] }, /expected a port or a range/],
    ['two listeners for a port', { redirect: ['1=15101', '1=15102'] }, /port 1 can go to 15101 or to 15102/],
    ['a listener that is captured', { redirect: ['1=2', '2=15102'] }, /port 2 is captured itself/],
    ['a port of ours', { redirect: ['15008=15101'] }, /15001 to 15199 are the sidecar's own/],
    [
      'a range with ports of ours',
      { inboundPorts: ['15000-16000'] },
      /--inbound-ports 15000:16000: ports 15001/,
    ],
    ['the last port of ours', { inboundPorts: ['15199'] }, /are never captured/],
    ['root as the sidecar', { uid: '0' }, /as root cannot be told from the rest/],
    ['the sidecar skipped', { skipUsers: ['15008'] }, /this is the sidecar's user/],
    ["a user's name", { skipUsers: ['web'] }, /expected the number of a user; names are not known/],
    ['a user that none can be', { uid: '4294967295' }, /expected the number of a user/],
  ])('of %s is refused', (_what, options, says) => {
    expect(refusal(() => planOf(given(options)))).toMatch(says);
  });

  it('takes what is just beside the ports of ours', () => {
    expect(() => planOf(given({ inboundPorts: ['15000', '15200'] }))).not.toThrow();
  });
});

describe('a subnet', () => {
  it.each([
    ['10.1.2.3', '10.1.2.3/32'],
    ['10.1.2.3/31', '10.1.2.2/31'],
    ['10.255.2.3/9', '10.128.0.0/9'],
    ['255.255.255.255/1', '128.0.0.0/1'],
    ['::1', '::1/128'],
    ['fd00:0:0:1::/64', 'fd00:0:0:1::/64'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1/128'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1/128'],
    ['1::2:3:4:5:6:7', '1:0:2:3:4:5:6:7/128'],
    ['64:ff9b::10.1.2.3/96', '64:ff9b::/96'],
    ['64:ff9b::10.1.2.3', '64:ff9b::a01:203/128'],
    ['ff02::', 'ff02::/128'],
    ['fe80:1:2:3:4:5:6:7/10', 'fe80::/10'],
  ])('%s is %s', (text, is) => {
    expect(parseSubnet(text).text).toBe(is);
  });

  it.each([
    ['10.0.0.0/33', /from 1 to 32/],
    ['fd00::/129', /from 1 to 128/],
    ['10.0.0.0/', /from 1 to 32/],
    ['10.0.0.0/0', /every address/],
    ['::/0', /every address/],
    ['10.0.0/8', /expected an address or a subnet/],
    ['fe80::1%eth0', /expected an address or a subnet/],
    ['10.0.0.0/8/8', /expected an address or a subnet/],
    ['::ffff:10.0.0.1', /write the IPv4 address itself/],
    ['web.shop', /expected an address or a subnet/],
  ])('%s is refused', (text, says) => {
    expect(refusal(() => parseSubnet(text))).toMatch(says);
  });
});
