import type { ServingCertificate } from './certificates.ts';

/** Told of what becomes of the certificate. */
export interface CertificateListener {
  /** It is to be shown from now on. */
  onTaken(certificate: ServingCertificate, cause: 'found' | 'made' | 'rotated'): void;
  /** Something is wrong, and what was good stays. Told once for the same trouble. */
  onTrouble(message: string): void;
}

/** Where the webhook's certificate comes from. */
export interface CertificateSource {
  /** Resolves once there is a certificate: `onTaken` has been called. False if it was closed before. */
  open(): Promise<boolean>;
  close(): void;
}
