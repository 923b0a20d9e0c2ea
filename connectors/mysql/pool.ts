/** Sessions kept open between chunks: a login costs more than a small table's rows. */
import { openSession, type Session, type SessionOptions } from './session.ts';
import type { MysqlAddress } from './settings.ts';

const keep = 4;

export class SessionPool implements AsyncDisposable {
  readonly #address: MysqlAddress;
  readonly #options: SessionOptions;
  #idle: Session[] = [];
  #closed = false;

  constructor(address: MysqlAddress, options: SessionOptions = {}) {
    this.#address = address;
    this.#options = options;
  }

  /** Runs the work with a session of its own, not in a transaction; what throws gives no session back. The signal ends both. */
  async use<T>(work: (session: Session) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const session = await this.take();
    const stop = () => session.destroy();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      signal?.throwIfAborted();
      const result = await work(session);
      await this.give(session);
      return result;
    } catch (error) {
      session.destroy();
      throw signal?.aborted ? signal.reason : error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  /** The caller gives it back clean, or destroys it. */
  async take(): Promise<Session> {
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      // It may have been ended by the server a moment ago; that would look like a failure of the work.
      try {
        await idle.query('SELECT 1');
        return idle;
      } catch {
        idle.destroy();
      }
    }
    const session = await openSession(this.#address, this.#options);
    // An idle session whose server went away must not be handed out.
    session.lost.catch(() => {
      this.#idle = this.#idle.filter((other) => other !== session);
    });
    return session;
  }

  async give(session: Session): Promise<void> {
    if (!this.#closed && this.#idle.length < keep) this.#idle.push(session);
    else await session[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#idle.splice(0).map((session) => session[Symbol.asyncDispose]()));
  }
}
