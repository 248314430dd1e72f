// What a handshake costs without sockets, full and resumed: node --import tsx bench/handshakes.bench.ts
import type { Established, HandshakeMachine, HandshakeStep } from '../src/transport/handshake.ts';
import { type Mode, RESUMPTION, XX, XXHFS } from '../src/transport/mode.ts';
import { Office } from '../test/transport/office.ts';
import { makePair } from '../test/transport/world.ts';

const BATCH = 64; // handshakes that take each step together, so that the CPU time of a step can be read
const WARM_UPS = 30;
const BATCHES = 40;

interface Shake {
  readonly initiator: HandshakeMachine;
  readonly responder: HandshakeMachine;
}

/** Microseconds of CPU of each side, and what the handshakes yielded. */
interface Cost {
  readonly initiatorUs: number;
  readonly responderUs: number;
  readonly established: readonly Established[];
}

const pair = await makePair([XX, XXHFS]);
const office = new Office();

function cpuUs(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** Runs handshakes side by side, flight by flight. */
function run(shakes: readonly Shake[]): Cost {
  const us = { initiator: 0, responder: 0 };
  const established: Established[] = [];
  let flights: (Buffer | undefined)[] = [];
  us.initiator += cpuUs(() => {
    flights = shakes.map(({ initiator }) => initiator.start());
  });
  for (let turn: keyof Shake = 'responder'; flights[0] !== undefined; ) {
    let steps: (HandshakeStep | undefined)[] = [];
    us[turn] += cpuUs(() => {
      steps = shakes.map((shake, i) => shake[turn].receive(flights[i] as Buffer));
    });
    for (const step of steps) if (step?.established !== undefined) established.push(step.established);
    flights = steps.map((step) => step?.send);
    turn = turn === 'responder' ? 'initiator' : 'responder';
  }
  return {
    initiatorUs: us.initiator / shakes.length,
    responderUs: us.responder / shakes.length,
    established,
  };
}

const batch = (make: () => Shake): Shake[] => Array.from({ length: BATCH }, make);

const full = (mode: Mode) => (): Shake => ({
  initiator: pair.initiator({ tickets: true, modes: [mode] }),
  responder: pair.responder({ tickets: office, modes: [mode] }),
});

/** Each handshake of a batch resumes a session of its own: of one that has more tickets, the oldest go. */
function resumed(): () => Shake {
  const { established } = run(batch(full(XX)));
  const [theirs, ours] = (['initiator', 'responder'] as const).map((role) =>
    established.filter((end) => end.role === role),
  );
  let n = 0;
  return () => {
    const at = n++ % BATCH;
    const ticket = office.issue(ours?.[at] as Established, theirs?.[at] as Established);
    return {
      initiator: pair.initiator({ takeTicket: () => ticket, modes: [XX] }),
      responder: pair.responder({ tickets: office, modes: [XX] }),
    };
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number;
}

const rows = [
  { mode: XX, what: 'mode 0, full', make: full(XX) },
  { mode: XXHFS, what: 'mode 1, full, with ML-KEM-768', make: full(XXHFS) },
  { mode: RESUMPTION, what: 'mode 2, resumed', make: resumed() },
].map(({ mode, what, make }) => ({ mode, what, make, costs: [] as Cost[] }));

// In turn, so that a disturbance of the machine falls on all.
for (let n = 0; n < WARM_UPS + BATCHES; n++) {
  for (const { mode, make, costs } of rows) {
    const cost = run(batch(make));
    if (cost.established.some((end) => end.mode !== mode)) throw new Error('not the mode that was asked for');
    if (n >= WARM_UPS) costs.push({ ...cost, established: [] });
  }
}

const [base] = rows.map(({ costs }) => median(costs.map(({ responderUs }) => responderUs)));
for (const { what, costs } of rows) {
  const initiator = median(costs.map(({ initiatorUs }) => initiatorUs));
  const responder = median(costs.map(({ responderUs }) => responderUs));
  const ratio = ((base as number) / responder).toFixed(2);
  console.log(
    `${what.padEnd(32)} initiator ${initiator.toFixed(0).padStart(5)} us, responder ${responder.toFixed(0).padStart(5)} us of CPU: ${Math.round(1e6 / responder)} a second a core, ${ratio} x mode 0`,
  );
}
process.exit(0);
