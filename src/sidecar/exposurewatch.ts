import type { TimerHandle } from '../clock/clock.ts';
import { formatAddress, isLoopback } from '../config/address.ts';
import type { SidecarConfig } from '../config/config.ts';
import type { ControlChannel } from '../control/channel.ts';
import { EXPOSURE_CURE } from '../control/exposure.ts';
import type { ExposureReport } from '../control/exposurereport.ts';
import type { RelayContext } from '../relay/context.ts';
import { dialPlaintext } from './plaintextdial.ts';

const EVERY_MS = 5 * 60_000;

/** An address of the pod at which an app might be reached past its sidecar. */
interface Place {
  readonly service: string;
  readonly host: string;
  readonly port: number;
  /** `host:port` */
  readonly name: string;
  exposed: boolean;
}

type Told = Pick<ExposureReport, 'tell' | 'close'>;

/**
 * Looks whether apps that are to be reached through this sidecar only answer in plaintext on the addresses of the pod, where
 * anybody who gets there needs no identity. What is seen is an audit event and a line in the log whenever it changes, and the
 * controller is told. Who is silent has not changed.
 */
export class ExposureWatch {
  readonly #context: RelayContext;
  readonly #places: readonly Place[];
  readonly #report: Told | undefined;
  #timer: TimerHandle;
  #looking: Promise<void> | undefined;
  /** An app has come up meanwhile. */
  #again = false;
  #closed = false;

  constructor(context: RelayContext, { apps, podAddresses }: SidecarConfig['ingress'], report?: Told) {
    this.#context = context;
    this.#report = report;
    const local = apps.flatMap(({ service, address }) =>
      address.kind === 'tcp' && isLoopback(address) ? [{ service, port: address.port }] : [],
    );
    const places = local.flatMap(({ service, port }) =>
      podAddresses.map((host): Place => {
        const name = formatAddress({ kind: 'tcp', host, port });
        return { service, host, port, name, exposed: false };
      }),
    );
    // Several services may have one app.
    this.#places = places.filter(({ name }, at) => places.findIndex((other) => other.name === name) === at);
    if (this.#places.length === 0) return;
    context.metrics.observe({ appsExposed: () => this.#byService() });
    void this.look();
  }

  /** `channel`: the way to the controller, if there is one. */
  static async open(
    context: RelayContext,
    ingress: SidecarConfig['ingress'],
    channel: ControlChannel | undefined,
  ): Promise<ExposureWatch> {
    if (channel === undefined || ingress.podAddresses.length === 0)
      return new ExposureWatch(context, ingress);
    const { ExposureReport } = await import('../control/exposurereport.ts');
    const { clock, log } = context;
    return new ExposureWatch(context, ingress, new ExposureReport({ channel, clock, log }));
  }

  /** Looks now, and from now on every few minutes. Resolves when it has. */
  async look(): Promise<void> {
    if (this.#closed || this.#places.length === 0) return;
    if (this.#looking !== undefined) {
      this.#again = true;
      return await this.#looking;
    }
    const { clock } = this.#context;
    clock.clear(this.#timer);
    this.#looking = this.#lookAll().then(() => {
      this.#looking = undefined;
      if (this.#closed) return;
      this.#timer = clock.after(this.#again ? 0 : EVERY_MS, () => void this.look());
      this.#again = false;
    });
    await this.#looking;
  }

  close(): void {
    this.#closed = true;
    this.#context.clock.clear(this.#timer);
    this.#report?.close();
  }

  async #lookAll(): Promise<void> {
    for (const place of this.#places) {
      const seen = await dialPlaintext(place.host, place.port, this.#context.clock);
      if (this.#closed) return;
      const exposed = seen === 'plaintext' || (seen === 'unknown' && place.exposed);
      if (exposed !== place.exposed) this.#changed(place, exposed);
    }
    const exposed = this.#places.filter((place) => place.exposed);
    this.#report?.tell(new Set(exposed.map(({ port }) => port)));
  }

  #changed(place: Place, exposed: boolean): void {
    const { recorder, log } = this.#context;
    const { service, name: address } = place;
    place.exposed = exposed;
    if (exposed) {
      recorder.record({ type: 'app.exposed', service, address });
      log.warn(
        { service, address },
        `the app answers in plaintext at ${address}, past this sidecar: ${EXPOSURE_CURE}`,
      );
    } else {
      recorder.record({ type: 'app.unexposed', service, address });
      log.info({ service, address }, `the app no longer answers in plaintext at ${address}`);
    }
  }

  /** At how many addresses each app is seen. */
  #byService(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { service, exposed } of this.#places) {
      counts[service] = (counts[service] ?? 0) + (exposed ? 1 : 0);
    }
    return counts;
  }
}
