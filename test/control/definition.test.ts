import { expect, it } from 'vitest';
import { loadIdentityDefinition } from '../../src/control/definition.ts';
import type { CertifyRequest, CertifyResponse, GetBundleResponse } from '../../src/control/messages.ts';

it('Identity is as its messages say', async () => {
  const { Certify, GetBundle, ...others } = await loadIdentityDefinition();
  expect(Object.keys(others)).toEqual([]);
  expect(Certify).toMatchObject({
    path: '/hauberk.control.v1.Identity/Certify',
    requestStream: false,
    responseStream: false,
  });
  expect(GetBundle).toMatchObject({ path: '/hauberk.control.v1.Identity/GetBundle', responseStream: false });
  const bundle: GetBundleResponse = { bundle: [Buffer.from([4])] };
  expect(GetBundle.responseDeserialize(GetBundle.responseSerialize(bundle))).toEqual(bundle);
  const request: CertifyRequest = {
    csr: Buffer.from([1, 2]),
    proof: 'serviceAccountToken',
    serviceAccountToken: 'token',
  };
  expect(Certify.requestDeserialize(Certify.requestSerialize(request))).toEqual(request);
  expect(Certify.requestDeserialize(Buffer.alloc(0))).toEqual({ csr: Buffer.alloc(0) });
  const response: CertifyResponse = {
    chain: [Buffer.from([3])],
    bundle: [Buffer.from([4]), Buffer.from([5])],
    spiffeId: 'spiffe://cluster.local/ns/shop/sa/web',
    notAfterMs: Date.UTC(2126, 0, 1),
  };
  expect(Certify.responseDeserialize(Certify.responseSerialize(response))).toEqual(response);
});
