/** Small real servers that take notifications: HTTP that answers what a test says, and SMTP. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';

export type Taken = { readonly path: string; readonly headers: IncomingHttpHeaders; readonly body: string };
type Answer = { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };

/** `answer` is asked for each request, with how many came before it. */
export async function httpReceiver(answer: (taken: Taken, before: number) => Answer) {
  const taken: Taken[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (piece: string) => {
      body += piece;
    });
    request.on('end', () => {
      const one = { path: request.url ?? '', headers: request.headers, body };
      const { status, headers, body: said = '' } = answer(one, taken.length);
      taken.push(one);
      response.writeHead(status, headers).end(said);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    taken,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Mail = { readonly from: string; readonly to: readonly string[]; readonly text: string };

/** `refuse`: a reply code for the receivers given, 0 for none. */
export async function smtpReceiver({
  password,
  refuse,
}: {
  readonly password: string;
  readonly refuse: (before: number) => number;
}) {
  const mails: Mail[] = [];
  let tries = 0;
  const server = new SMTPServer({
    disabledCommands: ['STARTTLS'],
    allowInsecureAuth: true,
    onAuth(auth, _session, done) {
      const right = auth.username === 'godwit' && auth.password === password;
      done(
        right ? null : Object.assign(new Error('no'), { responseCode: 535 }),
        right ? { user: 'godwit' } : undefined,
      );
    },
    onRcptTo(_address, _session, done) {
      const code = refuse(tries++);
      done(code ? Object.assign(new Error(`secret words of ${code}`), { responseCode: code }) : null);
    },
    onData(stream, session, done) {
      let text = '';
      stream.setEncoding('utf8');
      stream.on('data', (piece: string) => {
        text += piece;
      });
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({ from: mailFrom ? mailFrom.address : '', to: rcptTo.map(({ address }) => address), text });
        done();
      });
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.server.address() as AddressInfo;
  return {
    port,
    mails,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(resolve)),
  };
}
