/** Reads a Dockerfile as far as ours goes: stages by name, with their instructions in order. */
export function parseStages(text) {
  const stages = new Map();
  const bases = new Map();
  let stage;
  const lines = text
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n');
  for (const line of lines) {
    if (line.trim() === '') continue;
    const [, word, rest] = /^([A-Z]+)\s+(.*)$/.exec(line.trim()) ?? [];
    if (word === undefined) throw new Error(`not an instruction: ${line}`);
    if (word === 'FROM') {
      const [, from, name] = /^(\S+) AS (\S+)$/.exec(rest) ?? [];
      if (name === undefined) throw new Error(`a stage without a name: ${line}`);
      stage = { from: filled(from, bases), instructions: [] };
      stages.set(name, stage);
    } else if (stage === undefined && word === 'ARG') {
      const [, key, value] = /^(\w+)=(\S+)$/.exec(rest) ?? [];
      if (key === undefined) throw new Error(`an ARG without a default: ${line}`);
      bases.set(key, value);
    } else if (stage === undefined) {
      throw new Error(`before the first stage: ${line}`);
    } else {
      stage.instructions.push({ word, rest: rest.replaceAll(/\s+/g, ' '), json: jsonOf(rest) });
    }
  }
  return stages;
}

function filled(from, bases) {
  return from.replaceAll(/\$\{(\w+)\}/g, (_all, key) => {
    if (!bases.has(key)) throw new Error(`FROM ${from}: there is no ARG ${key} before the first stage`);
    return bases.get(key);
  });
}

function jsonOf(rest) {
  return rest.startsWith('[') ? JSON.parse(rest) : undefined;
}
