import type { Command } from 'commander';
import type { Config } from '../config.ts';
import type { Output } from './output.ts';

/** What every verb is given. */
export type Context = {
  readonly config: Config;
  readonly out: Output;
  /** The options of the command line, as commander parsed them. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly program: Command;
};
