import type { ServerUnaryCall, ServiceDefinition, sendUnaryData } from '@grpc/grpc-js';
import { loadIdentityDefinition } from '../../control/definition.ts';
import type { CertifyRequest, CertifyResponse, GetBundleResponse } from '../../control/messages.ts';
import type { CaPair } from '../issuer/capair.ts';
import { type CertifyRefusal, REFUSAL_STATUS } from '../issuer/errors.ts';
import type { Issuer } from '../issuer/issuer.ts';
import type { ControlService } from './controlserver.ts';

/** hauberk.control.v1.Identity. */
export async function identityService(issuer: Issuer, ca: () => CaPair): Promise<ControlService> {
  const [{ Metadata, status }, definition] = await Promise.all([
    import('@grpc/grpc-js'),
    loadIdentityDefinition(),
  ]);
  const certify = (
    call: ServerUnaryCall<CertifyRequest, CertifyResponse>,
    answer: sendUnaryData<CertifyResponse>,
  ): void => {
    const gone = new AbortController();
    call.on('cancelled', () => gone.abort());
    issuer.certify(call.request, { remote: call.getPeer(), signal: gone.signal }).then(
      (response) => answer(null, response),
      ({ code, message, retryMs }: CertifyRefusal) => {
        const metadata = new Metadata();
        metadata.set('hauberk-error', code);
        if (retryMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(Math.ceil(retryMs)));
        answer({ code: status[REFUSAL_STATUS[code]], details: message, metadata });
      },
    );
  };
  const getBundle = (
    _call: ServerUnaryCall<object, GetBundleResponse>,
    answer: sendUnaryData<GetBundleResponse>,
  ): void => answer(null, { bundle: ca().certificates });
  return {
    definition: definition as ServiceDefinition,
    handlers: { Certify: certify, GetBundle: getBundle },
  };
}
