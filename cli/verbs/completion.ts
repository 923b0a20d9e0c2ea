import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { usage } from '../output.ts';
import { systemWords } from '../systems.ts';

const shells = { bash, zsh, fish };

/** A script made from the commands themselves, so that it cannot be out of date. */
export async function completion({ program, out }: Context, shell = ''): Promise<undefined> {
  if (!(shell in shells)) throw usage(`"${shell}" is no shell known here: bash, zsh or fish.`);
  const script = shells[shell as keyof typeof shells](program);
  out.text(script);
  out.json({ shell, script });
}

const words = (command: Command): string[] => command.commands.map((one) => one.name());
const flags = (command: Command): string[] => [
  '--help',
  ...command.options.map((option) => option.long).filter((long) => long !== undefined),
];

function cases(program: Command, line: (path: string, words: string[]) => string): string {
  return program.commands
    .flatMap((command) =>
      command.commands.length > 0
        ? [
            line(command.name(), words(command)),
            ...command.commands.map((child) => line(`${command.name()} ${child.name()}`, flags(child))),
          ]
        : [line(command.name(), flags(command))],
    )
    .join('\n');
}

function bash(program: Command): string {
  return `_godwit() {
  local cur=\${COMP_WORDS[COMP_CWORD]} at="\${COMP_WORDS[*]:1:COMP_CWORD-1}" words=""
  case "$at" in
    *" add"*" -t"|*" add"*" --type") COMPREPLY=($(compgen -W "${systemWords.join(' ')}" -- "$cur")); return ;;
  esac
  case "$at" in
    "") words="${words(program).join(' ')}" ;;
${cases(program, (path, list) => `    "${path}"|"${path} "*) words="${list.join(' ')}" ;;`)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ \${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _godwit godwit ./godwit`;
}

function zsh(program: Command): string {
  return `#compdef godwit
autoload -U +X bashcompinit && bashcompinit
${bash(program)}`;
}

function fish(program: Command): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "\\'")}'`;
  const top = program.commands.map(
    (command) => `complete -c godwit -n __fish_use_subcommand -a ${command.name()} -d ${quoted(command.description())}`,
  );
  const below = program.commands.flatMap((command) => [
    ...command.commands.map(
      (child) =>
        `complete -c godwit -n '__fish_seen_subcommand_from ${command.name()}' -a ${child.name()} -d ${quoted(child.description())}`,
    ),
    ...command.options.map(
      (option) =>
        `complete -c godwit -n '__fish_seen_subcommand_from ${command.name()}' -l ${option.long?.slice(2)} -d ${quoted(option.description)}`,
    ),
  ]);
  return [...top, ...below].join('\n');
}
