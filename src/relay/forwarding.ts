import { type HeaderField, headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import type { CallPlan } from './call.ts';
import type { RelayContext } from './context.ts';

/** The list with this `:authority`, without `host`, which says the same. */
export function withAuthority(list: HeaderList, own: HeaderField): HeaderList {
  if (list.get(':authority') === own.value && list.get('host') === undefined) return list;
  const fields = list.fields.filter(({ name }) => name !== 'host' && name !== ':authority');
  // Behind the other pseudo-headers, which all come first.
  let at = 0;
  while (at < fields.length && fields[at]?.name.startsWith(':')) at++;
  return HeaderList.of([...fields.slice(0, at), own, ...fields.slice(at)]);
}

/** What calls to an endpoint become that discovery has found: the peer is asked for its service and the port of its app. */
export class Forwarding {
  readonly service: string;
  readonly #context: RelayContext;
  readonly #authority: HeaderField;

  constructor(context: RelayContext, service: string, targetPort: number) {
    this.service = service;
    this.#context = context;
    this.#authority = headerField(':authority', `${service}:${targetPort}`);
  }

  /**
   * The plan to send the call by; kept with `plan`, whose header list a connection may repeat for every call. It is the
   * same for all endpoints of a service that have this port: their connections share the list.
   */
  apply(plan: CallPlan): CallPlan {
    const { forwarded: kept } = plan;
    if (kept !== undefined && (kept.by === this || kept.by.#authority.value === this.#authority.value)) {
      return kept.plan;
    }
    const { service } = this;
    const forwarded: CallPlan = {
      ...plan,
      service,
      series: this.#context.metrics.calls(plan.direction, service, plan.method),
      list: withAuthority(plan.list, this.#authority),
      forwarded: undefined,
    };
    plan.forwarded = { by: this, plan: forwarded };
    return forwarded;
  }
}
