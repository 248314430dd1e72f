import { type DerReader, malformed, Tag } from './der.ts';
import { IdentityError, quoted } from './errors.ts';

/** Forms of a GeneralName by their context tag (RFC 5280 4.2.1.6). */
export const NameForm = {
  other: 0,
  email: 1,
  dns: 2,
  x400: 3,
  directory: 4,
  edi: 5,
  uri: 6,
  ip: 7,
  oid: 8,
} as const;

/** The names in a certificate that constraints apply to. */
export interface ConstrainedNames {
  readonly uris: readonly string[];
  /** Every form that occurs in the subject alternative name. */
  readonly forms: ReadonlySet<number>;
  readonly subjectEmpty: boolean;
}

/** The name constraints of an issuer (RFC 5280 4.2.1.10). */
export interface NameConstraints {
  /** Hosts, or domains that begin with a dot; undefined if URIs are not limited to a list. */
  readonly permittedUris: readonly string[] | undefined;
  readonly excludedUris: readonly string[];
  /** Forms other than URI that are constrained in any way. */
  readonly otherForms: ReadonlySet<number>;
}

/** Reads the contents of the extension. */
export function readNameConstraints(outer: DerReader): NameConstraints {
  const constraints = outer.enter(Tag.SEQUENCE);
  outer.end();
  const otherForms = new Set<number>();
  const permitted = readSubtrees(constraints.enterOptional(Tag.explicit(0)), otherForms);
  const excluded = readSubtrees(constraints.enterOptional(Tag.explicit(1)), otherForms);
  constraints.end();
  if (permitted === undefined && excluded === undefined) malformed('name constraints that constrain nothing');
  return {
    permittedUris: permitted?.length ? permitted : undefined,
    excludedUris: excluded ?? [],
    otherForms,
  };
}

/** The URI constraints of one list; other forms go into `otherForms`. */
function readSubtrees(list: DerReader | undefined, otherForms: Set<number>): string[] | undefined {
  if (list === undefined) return undefined;
  if (list.atEnd) malformed('an empty list of name constraints');
  const uris: string[] = [];
  while (!list.atEnd) {
    const subtree = list.enter(Tag.SEQUENCE);
    const tag = subtree.nextTag;
    if (tag === Tag.context(NameForm.uri)) uris.push(readHost(subtree.contents(tag)));
    else {
      const form = tag & 0x1f;
      if ((tag & 0xc0) !== 0x80 || form > NameForm.oid) malformed('a name constraint of unknown form');
      subtree.contents(tag);
      otherForms.add(form);
    }
    // RFC 5280: minimum is 0, hence absent in DER, and maximum is absent.
    subtree.end();
  }
  return uris;
}

function readHost(bytes: Buffer): string {
  const host = bytes.toString('latin1').toLowerCase();
  if (!/^\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(host))
    malformed('a URI name constraint that is not a host or domain');
  return host;
}

/**
 * Refuses `names`, of a certificate below the issuer that carries `constraints`, unless they keep to them.
 * URI constraints are enforced. The other forms are not evaluated: a certificate that has a name of a form
 * which is constrained is refused, as RFC 5280 4.2.1.10 asks of whoever does not process that form.
 */
export function enforceNameConstraints(constraints: NameConstraints, names: ConstrainedNames): void {
  const refuse = (why: string): never => {
    throw new IdentityError('name-constraint', why);
  };
  for (const uri of names.uris) {
    const host = hostOf(uri);
    if (host === undefined) refuse(`${quoted(uri)} has no host to hold against an issuer's name constraints`);
    else if (constraints.excludedUris.some((constraint) => covers(constraint, host))) {
      refuse(`${quoted(uri)} is excluded by an issuer's name constraints`);
    } else if (constraints.permittedUris?.some((constraint) => covers(constraint, host)) === false) {
      refuse(`${quoted(uri)} is not permitted by an issuer's name constraints`);
    }
  }
  for (const form of constraints.otherForms) {
    const inSubject = form === NameForm.directory || form === NameForm.email;
    if (names.forms.has(form) || (inSubject && !names.subjectEmpty)) {
      refuse(`an issuer constrains names of form ${form}, which occur here and are not supported`);
    }
  }
}

/** The host of a URI with an authority, or undefined. */
function hostOf(uri: string): string | undefined {
  return /^[a-z][a-z0-9+.-]*:\/\/([a-z0-9._-]+)(?:[/?#]|$)/i.exec(uri)?.[1]?.toLowerCase();
}

/** `.example` covers every host below it but not `example`; `example` covers that host only. */
function covers(constraint: string, host: string): boolean {
  return constraint.startsWith('.') ? host.endsWith(constraint) && host !== constraint : host === constraint;
}
