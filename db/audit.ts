import type { Executor } from './open.ts';
import { audit } from './schema.ts';

/** Who did what to which object (`job/shop`, `run/shop/12`). Never a secret in `data`. */
export type AuditDraft = {
  readonly actor: string;
  readonly action: string;
  readonly object: string;
  readonly data?: Readonly<Record<string, unknown>>;
};

export async function writeAudit(db: Executor, draft: AuditDraft): Promise<void> {
  await db.insert(audit).values(draft);
}
