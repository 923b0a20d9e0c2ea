/** What the server accepts as a value: everything strict; dates of no calendar only where MySQL itself had them. */
import type { Work } from '../../contract.ts';
import type { Session } from '../session.ts';

const strict = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION';
const current = new WeakMap<Session, string>();

/** For the statements that follow in this session, until it is called for another work. */
export async function modeFor(session: Session, work: Work): Promise<void> {
  const mode =
    work.source.system === 'mysql' ? `${strict},ALLOW_INVALID_DATES` : `${strict},NO_ZERO_DATE,NO_ZERO_IN_DATE`;
  if (current.get(session) === mode) return;
  await session.run(`SET SESSION sql_mode = '${mode}'`);
  current.set(session, mode);
}
