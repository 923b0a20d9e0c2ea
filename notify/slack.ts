/** Slack: a bot's token and a channel (Web API, chat.postMessage), or an incoming webhook. */
import type { Message } from './format.ts';
import { type Delivery, post, refusal, refuseStatus } from './send.ts';

type Settings = {
  readonly token?: string;
  readonly channel?: string;
  readonly webhook_url?: string;
  readonly api_url?: string;
};

/** Slack's errors that pass by themselves; all others want somebody to mend the channel. */
const passing = new Set([
  'ratelimited',
  'rate_limited',
  'internal_error',
  'fatal_error',
  'service_unavailable',
  'request_timeout',
]);
const most = 3500;

export async function sendSlack(settings: Settings, { message }: Delivery): Promise<void> {
  const text = slackText(message);
  const json = { 'content-type': 'application/json; charset=utf-8' };
  if (settings.webhook_url) {
    const answer = await post(settings.webhook_url, json, JSON.stringify({ text }));
    return refuseStatus(settings.webhook_url, answer);
  }
  const url = `${(settings.api_url ?? 'https://slack.com/api').replace(/\/+$/, '')}/chat.postMessage`;
  const body = { channel: settings.channel, text, unfurl_links: false, unfurl_media: false };
  const answer = await post(url, { ...json, authorization: `Bearer ${settings.token}` }, JSON.stringify(body));
  refuseStatus(url, answer);
  const said = readAnswer(answer.text);
  if (said.ok === true) return;
  const error =
    typeof said.error === 'string' && /^[a-z_]{1,60}$/.test(said.error) ? said.error : 'an answer it does not document';
  throw refusal(`Slack refused: ${error}.`, {
    permanent: said.ok === false && !passing.has(error),
    after: answer.after,
  });
}

function readAnswer(text: string): { readonly ok?: unknown; readonly error?: unknown } {
  try {
    return JSON.parse(text) as { ok?: unknown };
  } catch {
    return {};
  }
}

/** Slack's mrkdwn: three characters are escaped; a name with `*` or `_` is not formatted inside of backticks only. */
function slackText({ title, lines }: Message): string {
  const escaped = (line: string) => line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  const text = [`*${escaped(title)}*`, ...lines.map(escaped)].join('\n');
  return text.length > most ? `${text.slice(0, most)} …` : text;
}
