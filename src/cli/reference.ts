/** The tables of docs/cli.md, from the commands themselves. scripts/generate-docs.mjs puts them between their marks. */
import type { Command, Option } from 'commander';
import { program } from './program.ts';

/** Every command that does something, by its whole name: `run`, `sessions list`. */
export function leaves(of: Command = program(), prefix = ''): Array<[name: string, command: Command]> {
  return of.commands.flatMap((command) => {
    const name = `${prefix}${command.name()}`;
    return command.commands.length === 0
      ? [[name, command] as [string, Command]]
      : leaves(command, `${name} `);
  });
}

/** The page with its tables made anew; everything else stays. Throws if a command has no place in it. */
export function renderCommands(page: string): string {
  let text = between(page, 'commands', [
    ['command', 'does'],
    ...leaves().map(([name, command]) => [`\`${usage(name, command)}\``, cell(command.summary())]),
  ]);
  for (const [name, command] of leaves()) text = between(text, name, optionRows(command));
  return text;
}

function usage(name: string, command: Command): string {
  const given = command.registeredArguments.map(
    (argument) => `${argument.name().toUpperCase()}${argument.variadic ? '...' : ''}`,
  );
  const needed = command.options.filter((option) => option.mandatory).map(flagOf);
  return ['hauberk', name, ...given, ...needed].join(' ');
}

function optionRows(command: Command): string[][] {
  return [
    ['option', 'default', ''],
    ...command.registeredArguments.map((argument) => [
      `\`${argument.name().toUpperCase()}${argument.variadic ? '...' : ''}\``,
      argument.required ? 'required' : '',
      cell(argument.description),
    ]),
    ...command.options.map((option) => {
      const [, description, shown] = /^(.*?)(?: \(default: (.+)\))?$/s.exec(option.description) as string[];
      return [
        [option.short, flagOf(option)]
          .filter((flag) => flag !== undefined)
          .map((flag) => `\`${flag}\``)
          .join(', '),
        option.mandatory ? 'required' : shown === undefined ? presetOf(option) : `\`${shown}\``,
        cell(`${description}${choicesOf(option)}`),
      ];
    }),
  ];
}

/** `--dir FOLDER` */
const flagOf = (option: Option): string =>
  option.flags.replace(/^-\w, /, '').replace(/<([^>]+)>/g, (_all, value: string) => value.toUpperCase());

const presetOf = ({ defaultValue, negate }: Option): string =>
  negate || defaultValue === undefined || defaultValue === false ? '' : `\`${defaultValue}\``;

const choicesOf = ({ argChoices }: Option): string =>
  argChoices === undefined ? '' : `: ${argChoices.join(', ')}`;

const cell = (text: string): string => text.replace(/[|*<]/g, '\\$&');

function between(page: string, name: string, [head, ...rows]: string[][]): string {
  const begin = `<!-- generated: ${name} -->\n`;
  const from = page.indexOf(begin);
  const to = page.indexOf('<!-- end -->', from);
  if (from === -1 || to === -1) throw new Error(`docs/cli.md has no place for \`${name}\``);
  const lines = [head as string[], (head as string[]).map(() => '---'), ...rows].map(
    (row) => `| ${row.join(' | ')} |\n`,
  );
  return `${page.slice(0, from + begin.length)}\n${lines.join('')}\n${page.slice(to)}`;
}
