import type { HeaderField } from '../hpack/field.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import { isSoundValue, type Message, readsOnlyPresence } from './message.ts';

const SHAPES = 8;
/** Octets of a list, counted +32 a field, above which its shape is not kept. */
const LARGEST = 2048;

/** On a list that fitted a shape once. If it comes again it is one of the HPACK memo's, and gets a message of its own. */
const FITTED = Symbol('fitted');

/** A request with what may differ in others left open. */
interface Shape {
  /** The field that must be there, or null. */
  readonly same: readonly (HeaderField | null)[];
  /** The name of the field that must be there, with any sound value, or the empty string. */
  readonly names: readonly string[];
  readonly message: Message;
}

/**
 * What requests of one connection have in common. Those of one method mostly differ in fields like `traceparent`,
 * `grpc-timeout` or `authorization`, of which nothing is read but that they may stand there. A request whose other
 * fields are the very objects of one that was read before is not read again: it gets that one's Message, with its own
 * `grpcTimeout`. Bounded, and without any value of a sensitive field.
 */
export class RequestShapes {
  readonly #shapes: Shape[] = [];
  #next = 0;

  /** The message of a request like this one; valid until the next is read. Undefined if there was none. */
  match(list: HeaderList): Message | undefined {
    if (list.derived !== null) return undefined;
    const shapes = this.#shapes;
    for (let i = 0; i < shapes.length; i++) {
      const shape = shapes[i] as Shape;
      if (!fits(list.fields, shape)) continue;
      list.derived = FITTED;
      shape.message.grpcTimeout = list.get('grpc-timeout');
      return shape.message;
    }
    return undefined;
  }

  /** Remembers the shape of a request that was read in full. */
  note(list: HeaderList, message: Message): void {
    if (list.size > LARGEST) return;
    const same = list.fields.map((field) => (field.sensitive || field.rule.varying ? null : field));
    const names = list.fields.map(({ name }) => (readsOnlyPresence(name) ? name : ''));
    this.#shapes[this.#next] = { same, names, message };
    this.#next = (this.#next + 1) % SHAPES;
  }
}

function fits(fields: readonly HeaderField[], { same, names }: Shape): boolean {
  const length = fields.length;
  if (length !== same.length) return false;
  for (let i = 0; i < length; i++) {
    const field = fields[i] as HeaderField;
    if (field === same[i]) continue;
    const name = names[i];
    if (name === '' || field.name !== name || !isSoundValue(field.value)) return false;
  }
  return true;
}
