import { DefaultLogger, type LogEntry, Runtime } from '@temporalio/worker';
import { type Logger, pino } from 'pino';
import type { Config } from '../config.ts';

const levels = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const;

/**
 * Temporal's logger is Godwit's; one per process, whoever comes first. Signals are left to the program: it stops what it
 * started, in its own order.
 */
export function installRuntime(config: Pick<Config, 'logLevel'>, given?: Logger): void {
  const log = given ?? pino({ level: config.logLevel, name: 'godwit' }, pino.destination({ fd: 2, sync: false }));
  const write = ({ level, message, meta }: LogEntry) => {
    const { error, ...rest } = (meta ?? {}) as { error?: unknown } & Record<string, unknown>;
    log[levels[level]]({ ...rest, ...(error instanceof Error ? { error: error.message } : {}) }, message);
  };
  const level = config.logLevel === 'silent' ? 'ERROR' : (config.logLevel.toUpperCase() as 'INFO');
  try {
    Runtime.install({
      logger: new DefaultLogger(level, config.logLevel === 'silent' ? () => {} : write),
      shutdownSignals: [],
      telemetryOptions: {
        logging: { filter: config.logLevel === 'silent' ? 'off' : { core: 'ERROR', other: 'ERROR' } },
      },
    });
  } catch {
    // Installed already: two workers in one process share it.
  }
}
