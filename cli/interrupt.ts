import type { Output } from './output.ts';

export type Choice = 'detach' | 'pause' | 'cancel';

/**
 * What Ctrl-C means on a watched run. In a terminal it asks (detach is the default); a second Ctrl-C, and one where
 * nobody can be asked, detaches. The run itself is durable: it goes on without whoever watches.
 */
export function onInterrupt({ out, embedded }: { out: Output; embedded: boolean }): {
  readonly signal: AbortSignal;
  /** True while the question is on the screen. */
  readonly asking: () => boolean;
  /** Set when the watching was ended. */
  readonly choice: () => Choice | undefined;
  readonly end: () => void;
} {
  const watching = new AbortController();
  let asking = false;
  let chosen: Choice | undefined;
  const settle = (choice: Choice) => {
    chosen ??= choice;
    watching.abort();
  };
  const interrupted = () => {
    if (asking || chosen !== undefined || !out.tty || process.stdin.isTTY !== true) return settle('detach');
    asking = true;
    ask(embedded).then(
      (choice) => {
        asking = false;
        if (choice !== 'watch') settle(choice);
      },
      () => settle('detach'),
    );
  };
  const terminated = () => settle('detach');
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', terminated);
  return {
    signal: watching.signal,
    asking: () => asking,
    choice: () => chosen,
    end: () => {
      process.off('SIGINT', interrupted);
      process.off('SIGTERM', terminated);
    },
  };
}

async function ask(embedded: boolean): Promise<Choice | 'watch'> {
  const { select, isCancel } = await import('@clack/prompts');
  const later = embedded
    ? 'Godwit stops with this command; the run goes on when it is started again'
    : 'the run goes on by itself';
  const answer = await select<Choice | 'watch'>({
    message: 'The run is not over.',
    initialValue: 'detach',
    options: [
      { value: 'detach', label: 'Detach', hint: later },
      { value: 'pause', label: 'Pause', hint: 'chunks in flight end; `godwit resume` goes on' },
      { value: 'cancel', label: 'Cancel', hint: 'nothing of this run is left on the targets' },
      { value: 'watch', label: 'Go on watching' },
    ],
  });
  // Ctrl-C in the question itself.
  return isCancel(answer) ? 'detach' : answer;
}
