/**
 * The injector as API servers meet it: a server (webhookserver.ts), its certificate (selfcertificate.ts, filecertificate.ts),
 * what API servers know it by (publisher.ts), and what pods get (../injector).
 */
import type { Recorder } from '../../audit/recorder.ts';
import type { Clock } from '../../clock/clock.ts';
import type { ControllerConfig } from '../../config/controllerconfig.ts';
import type { ListenError } from '../../relay/listener.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { KubeClient } from '../client/client.ts';
import { type InjectionResult, inject } from '../injector/inject.ts';
import { readPodName } from '../injector/pod.ts';
import type { InjectorSettings } from '../injector/settings.ts';
import type { ServingCertificate } from './certificates.ts';
import type { CertificateListener, CertificateSource } from './certificatesource.ts';
import { FileCertificate } from './filecertificate.ts';
import { Namespaces } from './namespaces.ts';
import { Publisher } from './publisher.ts';
import { type AdmissionRequest, isNewPod } from './review.ts';
import { SelfCertificate } from './selfcertificate.ts';
import { ServerVersion } from './serverversion.ts';
import { WebhookServer } from './webhookserver.ts';
import { injectorSettings } from './webhooksettings.ts';

export interface WebhookOptions {
  readonly config: ControllerConfig;
  /** The controller's own namespace. */
  readonly namespace: string;
  readonly version: string;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  /** CA certificates of the trust domain that are in force, PEM. */
  readonly bundlePem: () => string;
  readonly isLeader: () => boolean;
  readonly onSkipped: (error: ListenError) => void;
}

/** How long requests are still taken once the end has begun. */
const LINGER_MS = 3000;

export class Webhook {
  readonly #options: WebhookOptions;
  readonly #namespaces: Namespaces;
  readonly #serverVersion: ServerVersion;
  readonly #source: CertificateSource;
  readonly #publisher: Publisher | undefined;
  #certificate: ServingCertificate | undefined;
  #server: WebhookServer | undefined;

  constructor(options: WebhookOptions) {
    this.#options = options;
    const { client, clock, config, namespace, isLeader, metrics } = options;
    this.#namespaces = new Namespaces(client, clock);
    this.#serverVersion = new ServerVersion(client, clock, options.log);
    const { tls, configuration } = config.webhook;
    const listener: CertificateListener = {
      onTaken: (certificate, cause) => this.#taken(certificate, cause),
      onTrouble: (message) =>
        options.log.warn({ reason: message }, 'trouble with the certificate of the webhook'),
    };
    let bundle: (() => string) | undefined;
    if (tls.source !== 'self') {
      this.#source = new FileCertificate(tls, clock, listener);
      const { caBundle } = tls;
      if (caBundle !== undefined) bundle = () => caBundle;
    } else {
      const name = `${config.serviceName}.${namespace}.svc`;
      const source = new SelfCertificate({
        client,
        clock,
        namespace,
        secret: tls.secret,
        names: [name, `${name}.cluster.local`],
        listener,
        isLeader,
        publishedMs: (bundle) => this.#publisher?.publishedMs(bundle) ?? 0,
      });
      this.#source = source;
      bundle = () => source.bundle;
    }
    if (bundle !== undefined) {
      this.#publisher = new Publisher({
        client,
        clock,
        configuration,
        bundle,
        isLeader,
        onPublished: (webhooks) => this.#published(configuration, webhooks),
        onTrouble: (message) =>
          options.log.warn({ reason: message }, 'API servers may not know this webhook'),
      });
    }
    metrics.observe({
      webhookCertificateRemainingSeconds: () =>
        this.#certificate === undefined ? undefined : (this.#certificate.notAfter - clock.now()) / 1000,
    });
  }

  get bound(): readonly string[] {
    return this.#server?.bound ?? [];
  }

  /**
   * Resolves once requests are answered; waits for an API server that is away. False if it was stopped before. Rejects with
   * ListenError, or with WebhookError or KubeError where there can be no certificate.
   */
  async open(): Promise<boolean> {
    const { config, clock, log, onSkipped, metrics } = this.#options;
    if (!(await this.#source.open()) || this.#certificate === undefined) return false;
    const server = new WebhookServer(
      {
        clock,
        log,
        clientCa: config.webhook.clientCa,
        admit: (request, caller) => this.#admit(request, caller),
        onFailed: (status, detail) => {
          metrics.admissions.of('failed').inc();
          log.warn({ status, detail }, 'a request to the webhook got no answer');
        },
      },
      this.#certificate,
    );
    await server.listen(config.webhook.listen, onSkipped);
    this.#server = server;
    // Before this replica is ready: nobody shall be sent to a certificate that API servers do not know.
    await this.#publisher?.start();
    return true;
  }

  /** Lets requests under way end, and takes new ones for a moment; by `deadlineMs` all are over. */
  async drain(deadlineMs: number): Promise<void> {
    this.#source.close();
    this.#publisher?.close();
    await this.#server?.drain(Math.min(LINGER_MS, deadlineMs / 2), deadlineMs);
    this.#namespaces.close();
  }

  stop(): void {
    this.#source.close();
    this.#publisher?.close();
    this.#namespaces.close();
    this.#server?.close();
  }

  #taken(certificate: ServingCertificate, cause: 'found' | 'made' | 'rotated'): void {
    this.#certificate = certificate;
    this.#server?.show(certificate);
    const { tls } = this.#options.config.webhook;
    const notAfter = new Date(certificate.notAfter).toISOString();
    this.#options.recorder.record({ type: 'webhook.certificate', source: tls.source, cause, notAfter });
  }

  #published(configuration: string, webhooks: number): void {
    this.#options.recorder.record({ type: 'webhook.published', configuration, webhooks });
  }

  async #admit(request: AdmissionRequest, caller: string): Promise<InjectionResult> {
    const { clock, metrics } = this.#options;
    const began = clock.monotonic();
    const result = await this.#decide(request, caller);
    const word =
      'refused' in result
        ? 'refused'
        : 'skipped' in result
          ? 'skipped'
          : result.patch.length > 0
            ? 'injected'
            : 'unchanged';
    metrics.admissions.of(word).inc();
    metrics.admissionDuration.of().observe((clock.monotonic() - began) / 1000);
    if (word === 'injected' || word === 'refused') this.#record(request, result);
    return result;
  }

  async #decide(request: AdmissionRequest, caller: string): Promise<InjectionResult> {
    if (!isNewPod(request)) return { skipped: 'it is not a new pod' };
    const { namespace, object } = request;
    const [view, settings] = await Promise.all([this.#namespaces.of(namespace, caller), this.#settings()]);
    const result = inject(object, view, settings);
    if (!('skipped' in result)) return result;
    // The API server has asked because somebody wants a sidecar, maybe since a moment ago that `view` is older than.
    return inject(object, await this.#namespaces.latest(namespace, caller), settings);
  }

  async #settings(): Promise<InjectorSettings> {
    const { config, namespace, version, bundlePem } = this.#options;
    return injectorSettings(config, {
      namespace,
      version,
      bundlePem: bundlePem(),
      serverKnowsNative: await this.#serverVersion.knowsNativeSidecars(),
    });
  }

  #record({ object, namespace, dryRun, user, remote }: AdmissionRequest, result: InjectionResult): void {
    const { recorder } = this.#options;
    const common = { namespace, pod: readPodName(object), user, remote, dryRun };
    if ('refused' in result) recorder.record({ type: 'pod.refused', ...common, detail: result.refused });
    else recorder.record({ type: 'pod.injected', ...common, version: this.#options.version });
  }
}
