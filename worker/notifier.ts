import type { Logger } from 'pino';
import { type ChannelDeps, readyChannel } from '../activities/channel.ts';
import { storedFailure } from '../activities/failures.ts';
import { claimNotifications, noteSent, noteUnsent, reportOf } from '../db/notifications.ts';
import { asGodwitError } from '../errors.ts';
import { messageOf } from '../notify/format.ts';
import { isRefusal, send } from '../notify/send.ts';

const atOnce = 8;
/** Longer than one sending may take. */
const leaseMs = 60_000;
const firstMs = 5_000;
const mostMs = 15 * 60_000;
/** A receiver that did not answer for a day will not be told any more. */
const giveUpMs = 24 * 3_600_000;

/**
 * Sends what is due, a few at a time, until nothing is. Any number of workers may do it at once: each notification is claimed
 * by one. What cannot be sent says why, is tried again with growing pauses (or when the receiver said), and touches no run.
 */
export async function notifyRound(deps: ChannelDeps, log?: Logger): Promise<void> {
  for (;;) {
    const claimed = await claimNotifications(deps.db, { most: atOnce, leaseMs });
    if (claimed.length === 0) return;
    await Promise.all(claimed.map((one) => deliver(deps, one, log)));
  }
}

type Claimed = Awaited<ReturnType<typeof claimNotifications>>[number];

async function deliver(deps: ChannelDeps, { id, runId, event, channel, attempts, createdAt }: Claimed, log?: Logger) {
  try {
    const report = await reportOf(deps.db, runId);
    if (!report) return;
    const { type, settings } = await readyChannel(deps, channel);
    const [end = event] = event.split('/');
    await send(type, settings, {
      id,
      event: end,
      message: messageOf({ ...report, status: end as typeof report.status }),
      data: { run: report },
    });
    await noteSent(deps.db, id);
  } catch (thrown) {
    const error = asGodwitError(thrown);
    const failure = { ...storedFailure(error), attempt: attempts };
    const over = Date.now() - createdAt.getTime() > giveUpMs;
    const again = over || !passes(thrown) ? {} : { again: new Date(Date.now() + pauseMs(thrown, attempts)) };
    await noteUnsent(deps.db, { id, failure, ...again });
    log?.warn({ channel, code: error.code, attempts }, 'A notification could not be sent.');
  }
}

/** A channel that is missing or wrong is mended by somebody, who then sends it again. */
const passes = (error: unknown): boolean => (isRefusal(error) ? !error.permanent : asGodwitError(error).retryable);

function pauseMs(error: unknown, attempts: number): number {
  const asked = isRefusal(error) && error.after !== undefined ? Math.min(error.after * 1000, mostMs) : 0;
  return Math.max(asked, Math.min(mostMs, firstMs * 2 ** (attempts - 1)));
}
