const STAR = 42; // *
const SLASH = 47; // /

/**
 * A glob over names made of segments between slashes: `*` stands for any number of characters, none included,
 * other than `/`; everything else stands for itself. Matching takes at most pattern x longest segment steps and
 * allocates nothing, whatever the text: there is no regular expression behind it.
 */
export class Glob {
  readonly pattern: string;
  /** Whether the pattern has no star, and so matches one text only. */
  readonly literal: boolean;

  constructor(pattern: string) {
    this.pattern = pattern;
    this.literal = !pattern.includes('*');
  }

  matches(text: string): boolean {
    const { pattern } = this;
    if (this.literal) return pattern === text;
    let p = 0;
    let t = 0;
    // After a mismatch the last star takes one character more. Earlier stars never need to: what they took is
    // already as little as possible, which leaves later parts the most room.
    let star = -1;
    let taken = 0;
    while (t < text.length) {
      const want = p < pattern.length ? pattern.charCodeAt(p) : -1;
      const have = text.charCodeAt(t);
      if (want === STAR) {
        star = p++;
        taken = t;
      } else if (want === have) {
        p++;
        t++;
        if (have === SLASH) star = -1; // a star does not reach into the next segment
      } else if (star >= 0 && text.charCodeAt(taken) !== SLASH) {
        p = star + 1;
        t = ++taken;
      } else {
        return false;
      }
    }
    while (p < pattern.length && pattern.charCodeAt(p) === STAR) p++;
    return p === pattern.length;
  }
}
