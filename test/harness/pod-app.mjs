// What runs in the pods of the tests: plain grpc-js programs that know nothing of Hauberk, and a small DNS server.
//
//   server NAME ADDRESS...     answers calls, and says which came
//   client TARGET MS OCTETS MARK
//                              calls with that many octets for as long as it is let, and says how each ended
//   relay PORT SOCKET          hands connections to a port of loopback on to a Unix socket, which no network separates
//   dns ADDRESS FILE           answers A and AAAA from a file of { name: [address] }, which is read each time
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect, createServer, isIPv4 } from 'node:net';
import * as grpc from '@grpc/grpc-js';

const [role, ...args] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const same = (octets) => octets;
const WRITE = {
  path: '/shop.Book/Write',
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};

async function server(name, ...addresses) {
  const app = new grpc.Server();
  app.addService(
    { Write: WRITE },
    {
      Write: ({ request }, callback) => {
        say({ served: request.toString().split(' ')[0] });
        callback(null, Buffer.from(name));
      },
    },
  );
  const bind = (address) =>
    new Promise((resolve, reject) =>
      app.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  for (const address of addresses) await bind(address);
  say({ ready: true });
  process.once('SIGTERM', () => app.tryShutdown(() => process.exit()));
}

function client(target, interval, octets, mark) {
  const channel = new grpc.Client(target, grpc.credentials.createInsecure());
  let [made, open, stopping] = [0, 0, false];
  const call = () => {
    const id = `${mark}-${made++}`;
    open++;
    say({ called: id });
    const request = Buffer.from(`${id} `.padEnd(Number(octets), mark));
    channel.makeUnaryRequest(WRITE.path, same, same, request, (error, answer) => {
      say({ ended: id, code: error?.code ?? 0, details: error?.details ?? '', by: answer?.toString() ?? '' });
      if (--open === 0 && stopping) process.exit();
    });
  };
  const timer = setInterval(call, Number(interval));
  call();
  process.once('SIGTERM', () => {
    stopping = true;
    clearInterval(timer);
    if (open === 0) process.exit();
  });
}

function relay(port, path) {
  const listener = createServer((socket) => {
    const onward = connect(path);
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ]) {
      from.pipe(to);
      from.on('error', () => to.destroy());
    }
  });
  listener.listen(Number(port), '127.0.0.1', () => say({ ready: true }));
  process.once('SIGTERM', () => process.exit());
}

const A = 1;
const AAAA = 28;

function dns(address, file) {
  const socket = createSocket(isIPv4(address) ? 'udp4' : 'udp6');
  socket.on('message', (query, { address: to, port }) => {
    const labels = [];
    let at = 12;
    for (; query[at] !== 0; at += 1 + query[at])
      labels.push(query.toString('latin1', at + 1, at + 1 + query[at]));
    const question = query.subarray(12, at + 5);
    const type = query.readUInt16BE(at + 1);
    const known = JSON.parse(readFileSync(file, 'utf8'))[labels.join('.').toLowerCase()];
    const found = (known ?? []).filter((each) => type === (isIPv4(each) ? A : AAAA));
    const head = Buffer.from(query.subarray(0, 12));
    head.writeUInt16BE(known === undefined ? 0x8583 : 0x8580, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(found.length, 6);
    head.fill(0, 8);
    socket.send(Buffer.concat([head, question, ...found.map((each) => record(type, each))]), port, to);
  });
  socket.bind(53, address, () => say({ ready: true }));
  process.once('SIGTERM', () => process.exit());
}

function record(type, address) {
  const data = type === A ? Buffer.from(address.split('.').map(Number)) : groups(address);
  const head = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 1, 0, data.length]);
  return Buffer.concat([head, data]);
}

function groups(address) {
  const [before, after] = address.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const all = [...before, ...new Array(8 - before.length - after.length).fill('0'), ...after];
  return Buffer.concat(all.map((group) => Buffer.from(group.padStart(4, '0'), 'hex')));
}

await { server, client, dns, relay }[role](...args);
