import { createTransport } from 'nodemailer';
import { plainText } from './format.ts';
import { type Delivery, refusal, timeoutMs } from './send.ts';

type Settings = {
  readonly host?: string;
  readonly port?: number;
  /** STARTTLS is used where the server has it, and demanded with `starttls`. */
  readonly tls?: 'starttls' | 'implicit' | 'none';
  readonly username?: string;
  readonly password?: string;
  readonly from?: string;
  readonly to?: string | readonly string[];
};

type SmtpError = Error & { readonly code?: string; readonly responseCode?: number };

/** By SMTP. The message id is the notification's: a receiver that gets it twice can tell. */
export async function sendEmail(settings: Settings, { id, message }: Delivery): Promise<void> {
  const { host, tls, username, password = '', from, to = [] } = settings;
  const implicit = tls === 'implicit' || (tls === undefined && settings.port === 465);
  const transport = createTransport({
    host,
    port: settings.port ?? (implicit ? 465 : 587),
    secure: implicit,
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    ...(username ? { auth: { user: username, pass: password } } : {}),
    connectionTimeout: timeoutMs / 2,
    greetingTimeout: timeoutMs / 2,
    socketTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    await transport.sendMail({
      from,
      to: [to].flat() as string[],
      subject: message.title,
      text: plainText(message),
      messageId: `<${id}@godwit>`,
      headers: { 'Auto-Submitted': 'auto-generated' },
    });
  } catch (error) {
    throw translated(error as SmtpError, `${host}`);
  } finally {
    transport.close();
  }
}

/** By the server's reply code (5xx stays so) or the client's own; a server's text may quote addresses, so it is left out. */
function translated({ code, responseCode }: SmtpError, host: string) {
  if (code === 'EAUTH' && (responseCode === undefined || responseCode >= 500)) {
    return refusal(`${host} refused the login${responseCode ? ` (${responseCode})` : ''}.`, { permanent: true });
  }
  if (responseCode !== undefined) {
    const permanent = responseCode >= 500 && responseCode < 600;
    return refusal(`${host} refused the message with ${responseCode}.`, { permanent });
  }
  const permanent = code === 'EENVELOPE' || code === 'ETLS';
  return refusal(
    `${host}: ${code === 'ETLS' ? 'no TLS' : `the mail could not be handed over (${code ?? 'no answer'})`}.`,
    { permanent },
  );
}
