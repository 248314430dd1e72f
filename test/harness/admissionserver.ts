/** A webhook of the test's own making, which the real API server calls as that of a Service. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Kubernetes } from './kubernetes.ts';
import { atEnd } from './sidecars.ts';

/** What the server asks about. */
export interface Admission {
  readonly uid: string;
  readonly namespace: string;
  // biome-ignore lint/suspicious/noExplicitAny: any object of Kubernetes
  readonly object: any;
}

/** Operations of a JSON Patch, or why the object is refused. */
export interface Verdict {
  readonly patch?: readonly unknown[];
  readonly refused?: string;
  readonly warnings?: readonly string[];
}
export type Admit = (admission: Admission) => Promise<Verdict> | Verdict;

/** Registers a webhook for the creation of `resource` (of the core group) in namespace `namespace`; it stays. */
export async function startAdmissionServer(
  cluster: Kubernetes,
  namespace: string,
  resource: string,
  admit: Admit,
): Promise<void> {
  const { key, cert } = await cluster.certificate('hook', [`DNS:hook.${namespace}.svc`]);
  const tls = { key: readFileSync(key), cert: readFileSync(cert) };
  const server = createServer(tls, async (request, response) => {
    const body = await text(request).catch(() => undefined);
    if (body === undefined) return; // the connection broke
    const admission = JSON.parse(body).request as Admission;
    const { patch, refused, warnings } = await admit(admission);
    const answer = {
      uid: admission.uid,
      allowed: refused === undefined,
      ...(patch !== undefined && { patchType: 'JSONPatch', patch: toBase64(JSON.stringify(patch)) }),
      ...(refused !== undefined && { status: { code: 400, message: refused } }),
      ...(warnings !== undefined && { warnings }),
    };
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: answer }),
    );
  }).listen(0, cluster.network.outside);
  atEnd(() => {
    server.close().closeAllConnections();
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await cluster.apply(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'hook', namespace },
      spec: { ports: [{ name: 'https', port: 443, targetPort: port }] },
    },
    cluster.endpointSlice(namespace, 'hook', [cluster.network.outside], { https: port }),
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: 'hook' },
      webhooks: [
        {
          name: 'hook.shop.example',
          clientConfig: {
            service: { name: 'hook', namespace },
            caBundle: toBase64(readFileSync(cert, 'utf8')),
          },
          rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: [resource] }],
          namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
        },
      ],
    },
  );
}

function toBase64(text: string): string {
  return Buffer.from(text).toString('base64');
}
