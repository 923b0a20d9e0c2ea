import { queueNotifications } from '../db/notifications.ts';
import type { Executor } from '../db/open.ts';
import type { RunStatus } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import type { JobDocument, NotifyRules } from '../mapping/document.ts';
import type { Deps } from './deps.ts';
import { note } from './state.ts';

type Ended = { readonly id: string; readonly attempt: number; readonly document: unknown; readonly status: RunStatus };

/**
 * In the transaction that ends the run: who is to hear of it. A worker sends it afterwards, so nothing here can fail a run but
 * the database that ends it. Once per end of an attempt, however often that end is written.
 */
export async function tellEnd(tx: Executor, deps: Pick<Deps, 'config'>, run: Ended): Promise<void> {
  const settings = await settingsOf(tx, deps.config);
  const { notify } = run.document as JobDocument;
  const { on, channels }: NotifyRules = notify ?? settings.notify;
  if (!(on as readonly RunStatus[]).includes(run.status)) return;
  const receivers = channels ?? settings.notify.channels ?? [...settings.channels.keys()];
  await queueNotifications(tx, { runId: run.id, end: run.status, attempt: run.attempt, channels: receivers });
  if (receivers.length > 0) return;
  const message = 'Somebody is to be notified, but there is no channel: `godwit notify add` makes one.';
  await note(tx, { runId: run.id, level: 'warn', kind: 'notification.nobody', message });
}
