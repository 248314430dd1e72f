import { describe, expect, it } from 'vitest';
import { FrameLogging } from '../../src/relay/framelogging.ts';
import { type LogFields, silentLogger } from '../../src/telemetry/log.ts';
import { data, END_HEADERS, END_STREAM, frame, Http2Peer, PADDED, ping } from '../harness/http2-peer.ts';
import { setUp as sessions } from '../session/sessions.ts';

function setUp() {
  const { open } = sessions();
  const time = { now: 0 };
  const lines: LogFields[] = [];
  const notes: string[] = [];
  const info = (fields: LogFields, message: string): void => {
    if (message.startsWith('frames are logged')) notes.push(`${fields.remotes} ${message}`);
    else lines.push(fields);
  };
  const log = { ...silentLogger, info };
  const logging = new FrameLogging(log, () => time.now);
  const connect = (session: ReturnType<typeof open>, remote = '192.0.2.1:4711') => {
    const peer = new Http2Peer();
    return { peer, leave: logging.join(session, peer.connection, remote) };
  };
  const frames = () => lines.splice(0).map(({ sessionId, frame }) => `${sessionId} ${frame}`);
  return { open, time, lines, notes, logging, connect, frames };
}

describe('the log of frames', () => {
  it('is off until it is switched on, for that session only, and off again', () => {
    const { open, logging, connect, frames } = setUp();
    const [seen, other] = [open(), open()];
    const a = connect(seen);
    const b = connect(other);
    a.peer.write(ping());
    expect(frames()).toEqual([]);
    expect(logging.set(seen, true)).toBe(true);
    expect(logging.set(seen, true)).toBe(false);
    expect([logging.isOn(seen), logging.isOn(other)]).toEqual([true, false]);
    a.peer.write(ping());
    b.peer.write(ping());
    expect(frames()).toEqual([`${seen.id} PING`, `${seen.id} PING`]); // and its ACK
    expect(logging.set(seen, false)).toBe(true);
    expect(logging.set(seen, false)).toBe(false);
    a.peer.write(ping());
    expect(frames()).toEqual([]);
  });

  it('covers connections that join the session later, and none that has left', () => {
    const { open, logging, connect, frames } = setUp();
    const session = open();
    logging.set(session, true);
    const { peer, leave } = connect(session);
    peer.write(ping());
    expect(frames()).toHaveLength(2);
    leave();
    peer.write(ping());
    expect(frames()).toEqual([]);
    logging.set(session, false);
    logging.set(session, true);
    peer.write(ping());
    expect(frames()).toEqual([]);
  });

  it('tells the connections of a session apart, and names flags as the RFC does', () => {
    const { open, lines, notes, logging, connect } = setUp();
    const session = open();
    const [a, b] = ['192.0.2.1:4711', '192.0.2.1:4712'].map((remote) => connect(session, remote));
    logging.set(session, true);
    const c = connect(session, '192.0.2.1:4713');
    a?.peer.request(1, END_HEADERS | END_STREAM);
    b?.peer.write(ping());
    c.peer.write(frame(0, 0x40 | PADDED, 1, '\0'));
    logging.set(session, false);
    expect(lines.map(({ remote, frame, flags }) => `${remote} ${frame} ${flags}`)).toEqual([
      '192.0.2.1:4711 HEADERS END_STREAM|END_HEADERS',
      '192.0.2.1:4712 PING ',
      '192.0.2.1:4712 PING ACK',
      '192.0.2.1:4713 DATA PADDED|0x40',
      '192.0.2.1:4713 GOAWAY ',
    ]);
    expect(notes).toEqual([
      '192.0.2.1:4711 192.0.2.1:4712 frames are logged from here on',
      '192.0.2.1:4711 192.0.2.1:4712 192.0.2.1:4713 frames are logged no more',
    ]);
  });

  it('ends with its session', () => {
    const { open, logging, connect, frames } = setUp();
    const session = open();
    const { peer } = connect(session);
    logging.set(session, true);
    session.end('revoked');
    expect(logging.isOn(session)).toBe(false);
    peer.write(ping());
    expect(frames()).toEqual([]);
    expect(logging.set(session, true)).toBe(false);
  });

  it('has nothing of what frames carry', () => {
    const { open, lines, logging, connect } = setUp();
    const session = open();
    const { peer } = connect(session);
    logging.set(session, true);
    peer.request(1, END_HEADERS);
    peer.write(data(1, 'secret payload'), frame(0xbe, 0xff, 0, 'secret extension'));
    const text = JSON.stringify(lines);
    expect(lines.map((line) => line.frame)).toEqual(['HEADERS', 'DATA', '0xbe']);
    expect(lines[1]).toMatchObject({ direction: 'in', streamId: 1, length: 14, flags: '' });
    expect(text).not.toMatch(/secret|SayHello|greeter|grpc/);
  });

  it('writes 1,000 lines a second of all sessions together, and says how many it left out', () => {
    const { open, time, lines, logging, connect } = setUp();
    const peers = [open(), open()].map((session) => {
      logging.set(session, true);
      return connect(session).peer;
    });
    const flood = (n: number): void => {
      for (const peer of peers) {
        peer.request(1, END_HEADERS);
        for (let i = 0; i < n; i++) peer.write(data(1, 'x'));
      }
    };
    flood(999);
    expect(lines).toHaveLength(1000);
    time.now += 1000;
    peers[0]?.write(data(1, 'x'));
    expect(lines).toHaveLength(1002);
    expect(lines[1000]).toEqual({ frames: 1000, linesASecond: 1000 });
  });
});
