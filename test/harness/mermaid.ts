// A small check of Mermaid drawings, of the three kinds that the pages use: every line has one of the forms below.
// It is stricter than Mermaid, which forgives much and shows an error in place of the drawing for the rest.

/** A node of a flowchart: `a`, `a["text"]`, `a(["text"])`. Text with anything but words stands in quotes. */
const NODE = String.raw`\w+(?:\["[^"]+"\]|\(\["[^"]+"\]\)|\[[\w .,/-]+\])?`;
const LINK = String.raw`(?:-->|---|-\.->|==>|<-->|~~~)(?:\|"?[^|"]+"?\|)?`;

const FORMS: Record<
  string,
  { readonly head: RegExp; readonly opens: RegExp; readonly lines: readonly RegExp[] }
> = {
  flowchart: {
    head: /^flowchart (LR|TB|TD|RL|BT)$/,
    opens: /^subgraph \w+(\["[^"]+"\])?$/,
    lines: [new RegExp(`^${NODE}(?: ${LINK} ${NODE})*$`), /^direction (LR|TB)$/],
  },
  sequenceDiagram: {
    head: /^sequenceDiagram$/,
    opens: /^(loop|alt|opt|par|rect|critical) .+$/,
    lines: [
      /^(participant|actor) \w+( as [^;#]+)?$/,
      /^\w+(->>|-->>|-x|--x|->|-->|-\)|--\))[+-]?\w+: [^;#]+$/,
      /^[Nn]ote (over|left of|right of) \w+(,\w+)?: [^;#]+$/,
      /^(else|and|option)( .+)?$/,
      /^autonumber$/,
    ],
  },
  stateDiagram: {
    head: /^stateDiagram-v2$/,
    opens: /^state \w+ \{$/,
    lines: [/^(\w+|\[\*\]) --> (\w+|\[\*\])( ?: [^;#]+)?$/, /^direction (LR|TB)$/, /^\w+ : [^;#]+$/],
  },
};

/** What is wrong with a drawing, a line each; empty if nothing is. */
export function mermaidFaults(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  const kind = Object.values(FORMS).find(({ head }) => head.test(lines[0] as string));
  if (kind === undefined) return [`"${lines[0]}" begins no kind of drawing that is known`];
  const faults: string[] = [];
  let depth = 0;
  for (const line of lines.slice(1)) {
    if (line === '' || line.startsWith('%%')) continue;
    if (kind.opens.test(line)) depth += 1;
    else if (line === 'end' || line === '}') depth -= 1;
    else if (!kind.lines.some((form) => form.test(line))) faults.push(line);
  }
  if (depth !== 0) faults.push(`${Math.abs(depth)} \`end\` ${depth > 0 ? 'missing' : 'too many'}`);
  return faults;
}
