/** Edits (insert, delete, replace, swap neighbours) that turn `a` into `b`: optimal string alignment. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, previous[j] + 1, row[j - 1] + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, before[j - 2] + 1);
      row.push(best);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length];
}

const plain = (name: string): string => name.toLowerCase().replaceAll(/[-_. ]/g, '');

/** The valid name that was most probably meant, or undefined when nothing is near. */
export function nearest(name: string, valid: readonly string[]): string | undefined {
  // Longer names than any valid one can be near to are not measured: the cost is their product.
  const asked = plain(name.slice(0, 128));
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of valid) {
    const distance = editDistance(asked, plain(candidate));
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best !== undefined && least <= Math.max(1, Math.floor(plain(best).length / 3)) ? best : undefined;
}
