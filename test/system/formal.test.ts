import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runTool } from '../harness/nghttp2.ts';

/*
 * docs/formal: Verifpal finds no attack on the models, and finds the attacks that a fault planted in them opens.
 */

const FOLDER = fileURLToPath(new URL('../../docs/formal/', import.meta.url));
/** Runs of the protocol at once. With one, nothing can be replayed from one run into another. */
const SESSIONS: Readonly<Record<string, number>> = {
  'mode0.vp': 2,
  'mode0-uks.vp': 2,
  'mode1.vp': 2,
  'mode1-uks.vp': 2,
  'mode2.vp': 2,
  'mode2-uks.vp': 2,
  'mode2-roles.vp': 2,
  'resumed.vp': 1, // with 2 it takes longer than anybody waits
  'retry.vp': 1, // with 2 the search finds nothing either, but reaches its bounds
  'retry-mode2.vp': 1,
};
/** The largest model takes 80 s of a processor that it has for itself. */
const TIMEOUT_MS = 600_000;

interface Planted {
  readonly property: string;
  readonly model: string;
  readonly fault: string;
  readonly sessions?: number;
  /** Each is in the model. */
  readonly changes: readonly (readonly [from: string, to: string])[];
  /** The queries that it must break. */
  readonly broken: readonly string[];
}

const PLANTED: readonly Planted[] = [
  {
    property: 'secrecy, mode 0',
    model: 'mode0.vp',
    fault: "Web takes any responder's signature",
    changes: [['HASH(label_r, h3_w, rs_w), rsig_w)?', 'HASH(label_r, h3_w, rs_w), rsig_w)']],
    broken: ['confidentiality? m_w', 'authentication? Greeter -> Web: rec_g'],
  },
  {
    property: 'mutual authentication, mode 0',
    model: 'mode0.vp',
    fault: "the greeter takes any initiator's signature",
    changes: [['rs_g), rsig_g)?', 'rs_g), rsig_g)']],
    broken: ['confidentiality? m_g', 'authentication? Web -> Greeter: rec_w'],
  },
  {
    property: 'forward secrecy, mode 0',
    model: 'mode0.vp',
    fault: 'the ephemeral keys are not mixed with one another',
    changes: [
      ['HKDF(nil, DH_KEX(ge_w, e_g), nil)', 'HKDF(nil, nil, nil)'],
      ['HKDF(nil, DH_KEX(ge_g, e_w), nil)', 'HKDF(nil, nil, nil)'],
    ],
    broken: ['confidentiality? m_w', 'confidentiality? m_g', 'confidentiality? key_w'],
  },
  ...(['mode0-uks.vp', 'mode1-uks.vp'] as const).map((model) => ({
    property: 'no unknown key share',
    model,
    fault: 'the payload of message 3 is in the clear, and its signature covers the label only',
    changes: [
      ['AEAD_ENC(k3_w, n0, CONCAT(pk_w, sig_w, pk_g), h5_w)', 'CONCAT(pk_w, sig_w, pk_g)'],
      ['\tp_g = AEAD_DEC(k3_g, n0, cp_w, h5_g)?\n', ''],
      ['SPLIT(p_g)?', 'SPLIT(cp_w)?'],
      ['HASH(label_i, h5_w, gs_w)', 'label_i'],
      ['HASH(label_i, h5_g, rs_g)', 'label_i'],
    ] as const,
    broken: ['confidentiality? m_w'],
  })),
  {
    property: 'secrecy after X25519 has fallen, mode 1',
    model: 'mode1.vp',
    fault: "the KEM's secret is not mixed",
    changes: [
      ['HKDF(ck1_g, ss_g, nil)', 'HKDF(ck1_g, nil, nil)'],
      ['HKDF(ck1_w, ss_w, nil)', 'HKDF(ck1_w, nil, nil)'],
    ],
    broken: ['confidentiality? m_w', 'confidentiality? m_g', 'confidentiality? key_w'],
  },
  {
    property: 'no downgrade',
    model: 'retry.vp',
    fault: 'the prologue is without the first attempt',
    changes: [['HASH(hello0, offer, gf_w, retry)', 'HASH(hello0)']],
    broken: ['authentication? Greeter -> Web: retry', 'authentication? Web -> Greeter: offer'],
  },
  {
    property: 'no downgrade',
    model: 'retry.vp',
    fault: 'the prologue is without the first CLIENT_HELLO',
    changes: [['HASH(hello0, offer, gf_w, retry)', 'HASH(hello0, gf_w, retry)']],
    broken: ['authentication? Web -> Greeter: offer'],
  },
  {
    property: 'no downgrade after a ticket that is refused',
    model: 'retry-mode2.vp',
    fault: 'the prologue is without the first attempt',
    changes: [['HASH(offer, ticket, gf_w, tag_w, retry)', 'HASH(hello2)']],
    broken: ['authentication? Greeter -> Web: retry', 'authentication? Web -> Greeter: offer'],
  },
  {
    property: 'secrecy after a ticket that is refused',
    model: 'retry-mode2.vp',
    fault: "Web takes any responder's signature",
    changes: [['HASH(label_r, h2_w), rsig_w)?', 'HASH(label_r, h2_w), rsig_w)']],
    broken: ['authentication? Greeter -> Web: retry', 'confidentiality? m_w'],
  },
  {
    property: 'a ticket works in one direction, mode 2',
    model: 'mode2-roles.vp',
    fault: 'both sides use the same ticket',
    sessions: 2,
    changes: [
      ['\n\tgenerates ticket_w', ''],
      ['\n\tgenerates ticket_g', ''],
      ['Greeter -> Web: [ticket_g]\n', ''],
      ['Web -> Greeter: [ticket_w]\n', ''],
      ['ticket_g', 'ticket'],
      ['ticket_w', 'ticket'],
      ['knows private key', 'knows private key\n\tknows public ticket'],
    ],
    broken: [
      'authentication? Greeter -> Web: tag2_g',
      'authentication? Web -> Greeter: tag2_v',
      'authentication? Web -> Greeter: rec_w',
      'authentication? Greeter -> Web: rec_h',
    ],
  },
  {
    property: 'forward secrecy of a resumption, with the handshake before it',
    model: 'resumed.vp',
    fault: 'the ephemeral keys of mode 2 are not mixed with one another',
    changes: [
      ['HKDF(cka_g, DH_KEX(gf_w, f_g), gf_g)', 'HKDF(cka_g, nil, gf_g)'],
      ['HKDF(cka_w, DH_KEX(gf_g, f_w), gf_g)', 'HKDF(cka_w, nil, gf_g)'],
    ],
    broken: ['confidentiality? m_w', 'confidentiality? m_g'],
  },
  {
    property: 'a resumption is by whom the handshake before it has proven',
    model: 'resumed.vp',
    fault: 'the session key does not come from that',
    changes: [
      ['HKDF(x_w, cp_w, nil)', 'HKDF(nil, cp_w, nil)'],
      ['HKDF(x_g, cp_w, nil)', 'HKDF(nil, cp_w, nil)'],
    ],
    broken: [
      'confidentiality? m_w',
      'confidentiality? m_g',
      'authentication? Web -> Greeter: rec_w',
      'authentication? Greeter -> Web: rec_g',
    ],
  },
  {
    property: 'forward secrecy of resumption',
    model: 'mode2.vp',
    fault: 'the ephemeral keys are not mixed with one another',
    changes: [
      ['HKDF(ck2_g, DH_KEX(ge_w, e_g), nil)', 'HKDF(ck2_g, nil, nil)'],
      ['HKDF(ck2_w, DH_KEX(ge_g, e_w), nil)', 'HKDF(ck2_w, nil, nil)'],
    ],
    broken: ['confidentiality? m_w', 'confidentiality? m_g'],
  },
  {
    property: 'mutual authentication, mode 2',
    model: 'mode2.vp',
    fault: 'the PSK comes from the ticket alone',
    changes: [['HKDF(key, label, ticket)', 'HKDF(nil, label, ticket)']],
    broken: ['authentication? Web -> Greeter: rec_w', 'authentication? Greeter -> Web: rec_g'],
  },
  {
    property: 'a ticket works once, mode 2',
    model: 'mode2.vp',
    fault: 'every run has the same ticket',
    sessions: 2,
    changes: [
      ['\n\tgenerates ticket', ''],
      ['knows private key', 'knows private key\n\tknows public ticket'],
      ['Greeter -> Web: [ticket]\n', ''],
    ],
    broken: ['authentication? Web -> Greeter: tag1_w'],
  },
  {
    property: 'no unknown key share, mode 2',
    model: 'mode2-uks.vp',
    fault: 'the PSKs come from the tickets alone',
    changes: [
      ['HKDF(key, label, ticket)', 'HKDF(nil, label, ticket)'],
      ['HKDF(key_m, label, ticket_m)', 'HKDF(nil, label, ticket_m)'],
    ],
    broken: ['confidentiality? m_w'],
  },
];

interface Verdict {
  readonly query: string;
  /** Whether there is an attack. */
  readonly resolved: boolean;
  readonly envelope: { readonly exhausted: boolean };
}

async function analyse(path: string, sessions: number): Promise<readonly Verdict[]> {
  const { code, stdout, stderr } = await runTool('verifpal', [
    'verify',
    path,
    `--sessions=${sessions}`,
    '--format=json',
  ]);
  expect(code, `${stderr}${stdout}`).toBe(0);
  return JSON.parse(stdout.toString()).models[0].analysis.queries;
}

const queriesOf = (model: string): string[] =>
  [...model.slice(model.indexOf('queries[')).matchAll(/^\t(.*)$/gm)].map(([, query]) => query as string);

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'hauberk-formal-'));
});
afterAll(() => rm(work, { recursive: true }));

it('every model is run', async () => {
  const models = (await readdir(FOLDER)).filter((name) => name.endsWith('.vp'));
  expect(models.toSorted()).toEqual(Object.keys(SESSIONS).toSorted());
});

describe.concurrent('Verifpal', () => {
  it.each(Object.entries(SESSIONS))(
    'finds no attack on %s with %i sessions, and nothing left to search',
    async (name, sessions) => {
      const path = join(FOLDER, name);
      const verdicts = await analyse(path, sessions);
      expect(verdicts.map(({ query }) => query)).toEqual(queriesOf(await readFile(path, 'utf8')));
      expect(verdicts.filter(({ resolved, envelope }) => resolved || !envelope.exhausted)).toEqual([]);
    },
    TIMEOUT_MS,
  );

  it.each(PLANTED)(
    '$property: finds the attack if $fault',
    async ({ model, sessions = 1, changes, broken, fault }) => {
      let text = await readFile(join(FOLDER, model), 'utf8');
      for (const [from, to] of changes) {
        expect(text).toContain(from);
        text = text.replaceAll(from, to);
      }
      const path = join(
        work,
        `${PLANTED.findIndex((each) => each.fault === fault && each.model === model)}.vp`,
      );
      await writeFile(path, text);
      const found = (await analyse(path, sessions)).filter(({ resolved }) => resolved);
      expect(found.map(({ query }) => query)).toEqual(expect.arrayContaining([...broken]));
    },
    TIMEOUT_MS,
  );
});
