/** The messages of proto/hauberk/control/v1, as the definitions of this folder read and write them. */

export interface CertifyRequest {
  /** PKCS #10, DER. */
  readonly csr: Buffer;
  /** Which proof there is: undefined if none, or one that this version does not know. */
  readonly proof?: 'serviceAccountToken';
  readonly serviceAccountToken?: string;
}

export interface CertifyResponse {
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  /** DER. */
  readonly bundle: readonly Buffer[];
  readonly spiffeId: string;
  /** Since the epoch. */
  readonly notAfterMs: number;
}

export interface GetBundleResponse {
  /** DER. */
  readonly bundle: readonly Buffer[];
}

export interface WatchRequest {
  readonly authority: string;
  readonly namespace: string;
  readonly port: number;
}

export interface EndpointMessage {
  readonly address: string;
  readonly meshPort: number;
  readonly targetPort: number;
  readonly spiffeId: string;
  readonly zone: string;
  readonly ready: boolean;
}

export interface EndpointsMessage {
  readonly found: boolean;
  readonly service: string;
  readonly port: number;
  readonly endpoints: readonly EndpointMessage[];
  readonly hint: string;
  readonly zone: string;
}

export interface ReportRequest {
  readonly exposed: readonly number[];
  readonly closed: readonly number[];
}
