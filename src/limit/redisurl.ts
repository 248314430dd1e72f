import { LimitError } from './errors.ts';

const FORM = 'redis://[user:password@]host[:port][/database], or rediss:// for TLS';

/** An address whose password cannot be printed by accident. */
export class RedisUrl {
  readonly #url: string;
  readonly #secrets: readonly string[];
  readonly #shown: string;

  /** `setting` names where it was given. Throws LimitError `bad-store-url`, which does not repeat the address. */
  constructor(url: string, setting = 'limitStore.url') {
    let parsed: URL;
    try {
      parsed = new URL(url);
    } catch {
      // The cause would repeat the address.
      throw new LimitError('bad-store-url', `${setting} cannot be read; it must be ${FORM}`);
    }
    if ((parsed.protocol !== 'redis:' && parsed.protocol !== 'rediss:') || parsed.hostname === '') {
      throw new LimitError('bad-store-url', `${setting} must be ${FORM}`);
    }
    this.#url = url;
    const given = [parsed.password, ...[...parsed.searchParams.values()]].filter((text) => text !== '');
    this.#secrets = [...new Set(given.flatMap((text) => [text, decoded(text)]))].sort(
      (a, b) => b.length - a.length,
    );
    if (parsed.password !== '') parsed.password = '***';
    parsed.search = '';
    this.#shown = parsed.href;
  }

  /** The whole address, with the password. */
  reveal(): string {
    return this.#url;
  }

  /** `text` without any of the address's secrets. */
  redact(text: string): string {
    return this.#secrets.reduce((rest, secret) => rest.replaceAll(secret, '***'), text);
  }

  toString(): string {
    return this.#shown;
  }

  toJSON(): string {
    return this.#shown;
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
