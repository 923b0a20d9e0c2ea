/**
 * `godwit`: the verbs of the API on the command line, and those that start it. Each verb is one small file that is loaded
 * only when it is used, so that help is quick.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { asGodwitError, GodwitError } from '../errors.ts';
import type { Context } from './context.ts';
import { exits } from './exit.ts';
import { makeOutput, type OutputFormat, showError } from './output.ts';
import { systemList } from './systems.ts';
import { several } from './wanted-run.ts';

type Verb = (context: Context, ...args: string[]) => Promise<number | undefined>;

/** The whole command line as one literal of commands; `main` runs it. */
export function program(run: (load: () => Promise<Verb>, args: unknown[]) => Promise<void>): Command {
  const godwit = new Command('godwit')
    .description('Durable data migration: copies data between databases and files, survives any crash, and proves it.')
    .version(version(), '-V, --version')
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .configureHelp({ sortSubcommands: false })
    .helpCommand('help [command]', 'help for a command');

  const outputOption = () =>
    new Option('-o, --output <format>', 'text for people, json for one JSON object per line')
      .choices(['text', 'json'])
      .default('text');
  const verb = (
    parent: Command,
    usage: string,
    description: string,
    load: () => Promise<Verb>,
    examples: string[] = [],
  ) => {
    const command = parent.command(usage).description(description).addOption(outputOption());
    if (examples.length > 0)
      command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}`);
    return command.action((...args: unknown[]) => run(load, args));
  };

  godwit.commandsGroup('Everything in one:');
  verb(
    godwit,
    'up',
    'start PostgreSQL, Temporal, worker and API here and serve until stopped',
    async () => (await import('./verbs/up.ts')).up,
    ['godwit up', 'PORT=9000 godwit up'],
  );
  verb(
    godwit,
    'demo',
    'move a sample database to PostgreSQL and Parquet, verify it, and stop',
    async () => (await import('./demo/demo.ts')).demo,
  );
  verb(godwit, 'down', 'stop what `up` left running', async () => (await import('./verbs/down.ts')).down, [
    'godwit down',
    'godwit down --purge',
  ])
    .option('--purge', 'remove all data of the installation in GODWIT_HOME too')
    .option('-y, --yes', 'do not ask');
  verb(
    godwit,
    'doctor',
    'check the installation and say what to mend',
    async () => (await import('./verbs/doctor.ts')).doctor,
  );

  godwit.commandsGroup('Connections, sources, targets:');
  for (const kind of ['connection', 'source', 'target'] as const) {
    const group = godwit
      .command(kind)
      .description(`add, list, show, test or remove a ${kind}`)
      .enablePositionalOptions();
    const load = (name: 'add' | 'list' | 'show' | 'test' | 'remove') => async (): Promise<Verb> => {
      const endpoints = await import('./verbs/endpoints.ts');
      return (context, ...args) => endpoints[name](kind, context, ...args);
    };
    const add = verb(
      group,
      'add <name> [settings...]',
      `add a ${kind}, or change it with --replace`,
      load('add'),
      addExamples[kind],
    )
      .option('-t, --type <type>', systemList)
      .option('--replace', 'change it when it exists');
    if (kind !== 'connection') add.option('-c, --connection <name>', 'inherit from this connection');
    verb(group, 'list', `list all ${kind}s`, load('list'));
    verb(group, 'show <name>', `settings of one ${kind} (secrets as ***)`, load('show'));
    verb(group, 'test <name>', 'named checks: what works, what does not, and what to do', load('test'));
    verb(group, 'remove <name>', 'remove it; refused while something uses it', load('remove'));
  }
  verb(
    godwit,
    'tables <source>',
    "list a source's tables or collections",
    async () => (await import('./verbs/tables.ts')).tables,
    ['godwit tables shop-db', 'godwit tables shop-db public.orders', 'godwit tables crm customers'],
  ).argument('[table]', 'show the columns of this table');

  godwit.commandsGroup('Jobs and runs (RUN is job/number, an id, or a job = its latest run):');
  verb(godwit, 'apply <file>', 'store a mapping as a job', async () => (await import('./verbs/jobs.ts')).apply, [
    'godwit apply shop.yaml',
  ]);
  verb(
    godwit,
    'import [file]',
    'bring a Python mapping of the tool before over, or take over where it stopped (docs/import.md)',
    async () => (await import('./verbs/import.ts')).importOld,
    ['godwit import jobs/orders.py', 'godwit import --state state.json --job orders'],
  )
    .option('--out <folder>', 'where the YAML goes; default: here')
    .option('--force', 'over a file that is there')
    .option('--state <file|url>', 'last run times and keys: a JSON file, or the MongoDB they were kept in')
    .option('--job <name>', 'with --state: of this job')
    .option('--collection <name>', 'with --state and a MongoDB: its collection', 'encryption_store');
  verb(
    godwit,
    'plan <file|job>',
    'what a run would do, without doing it',
    async () => (await import('./verbs/jobs.ts')).plan,
    ['godwit plan shop.yaml'],
  );
  verb(godwit, 'run <file|job>', 'start a run and watch it', async () => (await import('./verbs/run.ts')).run, [
    'godwit run shop.yaml',
    'godwit run shop --output json | tail -1',
    'godwit run shop --detach',
    'godwit run shop --table public.orders --full',
    'godwit run shop --table public.orders --from 2024-02-01 --to 2024-02-29',
    "godwit run shop --table public.orders --where 'country=IN'",
  ])
    .option('-w, --watch', 'stay until the run has ended (the default)')
    .option('-d, --detach', 'come back at once; the run goes on in the Godwit that serves')
    .option('-t, --table <name>', 'only this table; may be given several times', several)
    .option('--full', 'load incremental tables anew and swap them in')
    .option('--from <value>', 'backfill: rows from this bookmark or key on')
    .option('--to <value>', 'backfill: rows up to this bookmark or key, inclusive')
    .option(
      '--where <test>',
      'backfill: rows for which this holds (col=value, col>=value, col in a,b, col is null)',
      several,
    )
    .option('--cut-off <time>', "stop then: a time of day in the job's zone, an instant, or none");
  verb(godwit, 'jobs', 'list the jobs', async () => (await import('./verbs/jobs.ts')).jobs);
  const job = godwit.command('job').description('one job').enablePositionalOptions();
  verb(
    job,
    'show <name>',
    'what it moves, and how its last runs went',
    async () => (await import('./verbs/jobs.ts')).showJob,
    ['godwit job show shop', 'godwit job show shop --runs 100 -o json'],
  ).option('-n, --runs <count>', 'how many runs', '10');
  verb(godwit, 'runs [job]', 'list the latest runs', async () => (await import('./verbs/runs.ts')).runs, [
    'godwit runs shop',
    'godwit runs --status failed,partial --since 7d',
    'godwit runs shop --tables --table public.orders --since 2024-02-01',
  ])
    .option('-n, --limit <count>', 'how many', '20')
    .option('--tables', 'one line per run and table: rows, size, time, mode')
    .option('--status <states>', 'only these, separated by commas')
    .option('-t, --table <name>', 'only with this table')
    .option('--target <name>', 'only to this target')
    .option('--mode <mode>', 'only of this mode')
    .option('--since <time>', 'a date, an instant, or so long ago (24h, 7d)')
    .option('--until <time>', 'the same')
    .option('--longer <duration>', 'only what took so long at least (90s, 10m, 2h)');
  verb(
    godwit,
    'show <run>',
    'one run with its tables, failures and books',
    async () => (await import('./verbs/runs.ts')).show,
    ['godwit show shop', 'godwit show shop/12', 'godwit show shop/12 --bounds'],
  )
    .option('-w, --watch', 'stay until the run has ended')
    .option('--bounds', 'from which bookmark or key to which its tables were read (audited)');
  for (const [name, what] of Object.entries(actions)) {
    verb(godwit, `${name} <run>`, what, async () => (await import('./verbs/runs.ts')).act(name), [
      `godwit ${name} shop`,
      `godwit ${name} shop/12 --table public.orders`,
    ]).option('-t, --table <name>', 'only this table (`schema.table`, or `schema.table@target`)');
  }
  verb(godwit, 'logs <run>', 'what happened in a run', async () => (await import('./verbs/logs.ts')).logs, [
    'godwit logs shop -f',
  ]).option('-f, --follow', 'stay until the run has ended');

  godwit.commandsGroup('Settings and notifications:');
  const settings = verb(
    godwit,
    'settings',
    "what holds for jobs that say nothing themselves, and where the mapping manual's other settings are",
    async () => (await import('./verbs/settings.ts')).list,
    ['godwit settings'],
  ).enablePositionalOptions();
  verb(settings, 'set <name> <value>', 'store one', async () => (await import('./verbs/settings.ts')).set, [
    'godwit settings set timezone Asia/Kolkata',
    'godwit settings set cut_off_time 06:00',
    'godwit settings set notify failed,partial',
  ]);
  verb(settings, 'unset <name>', 'forget one', async () => (await import('./verbs/settings.ts')).unset);
  const notify = godwit
    .command('notify')
    .description('channels to people (Slack, webhook, e-mail), and what was told through them')
    .enablePositionalOptions();
  verb(
    notify,
    'add <name> [settings...]',
    'save a channel',
    async () => (await import('./verbs/notifications.ts')).add,
    [
      "godwit notify add ops -t slack token=env:SLACK_TOKEN 'channel=#data'",
      'godwit notify add hook -t webhook url=https://example.org/hook secret=env:HOOK_SECRET',
      'godwit notify add mail -t email host=smtp.example.org username=godwit password=env:SMTP_PASSWORD from=godwit@example.org to=data@example.org',
    ],
  ).option('-t, --type <type>', 'slack, webhook or email');
  verb(notify, 'list', 'the channels', async () => (await import('./verbs/notifications.ts')).list);
  verb(notify, 'test <name>', 'send a test message', async () => (await import('./verbs/notifications.ts')).test, [
    'godwit notify test ops',
  ]);
  verb(notify, 'remove <name>', 'remove a channel', async () => (await import('./verbs/notifications.ts')).remove);
  verb(
    notify,
    'log [job]',
    'what was told, and what could not be',
    async () => (await import('./verbs/notifications.ts')).log,
  )
    .option('-s, --status <status>', 'queued, sent or failed')
    .option('-n, --limit <count>', 'how many', '20');
  verb(
    notify,
    'retry <id>',
    'send one again that failed',
    async () => (await import('./verbs/notifications.ts')).retry,
  );

  godwit.commandsGroup('Schedules (docs/schedules.md):');
  verb(
    godwit,
    'schedules [job]',
    'when jobs run: their schedules and next times',
    async () => (await import('./verbs/schedules.ts')).schedules,
    ['godwit schedules', 'godwit schedules shop'],
  );
  const schedule = godwit
    .command('schedule')
    .description('pause, resume or trigger the schedules of a job')
    .enablePositionalOptions();
  for (const [name, what] of Object.entries(scheduleActions)) {
    const action = name as keyof typeof scheduleActions;
    verb(schedule, `${name} <job>`, what, async () => (await import('./verbs/schedules.ts')).actOnSchedule(action))
      .option('-k, --key <key>', 'only this schedule of the job')
      .option('-n, --note <text>', 'why; stands with it, and in Temporal');
  }
  verb(
    godwit,
    'next <expression>',
    'the next times of a cron expression or an interval',
    async () => (await import('./verbs/next.ts')).next,
    [
      "godwit next '* * * * mon-fri 7-19 0 0' --timezone Asia/Kolkata",
      "godwit next '30 3 * * *' --count 3",
      "godwit next '* * last_fri * * 22 0 0' --after 2027-01-01",
    ],
  )
    .option('-z, --timezone <zone>', 'IANA name; default GODWIT_TIMEZONE, else UTC')
    .option(
      '-a, --after <time>',
      'from then on: 2027-01-01, 2027-01-01T07:00 (in the zone) or with an offset; default now',
    )
    .option('-n, --count <count>', 'how many', '10');

  const aside = godwit
    .command('quarantine')
    .description('rows set aside: list, show, export, replay, waive')
    .enablePositionalOptions();
  const quarantine = (name: 'list' | 'show' | 'exportRows' | 'replay' | 'waive') => async (): Promise<Verb> =>
    (await import('./verbs/quarantine.ts'))[name];
  const ofTable = ['-t, --table <name>', 'only this table (`schema.table`, or `schema.table@target`)'] as const;
  verb(aside, 'list [job]', 'how many rows per run and table, and why; no values', quarantine('list'))
    .option('-a, --all', 'those replayed and waived too')
    .option('-n, --limit <count>', 'how many lines', '50');
  verb(aside, 'show <run>', 'the rows themselves (audited)', quarantine('show'), ['godwit quarantine show shop/12'])
    .option(...ofTable)
    .option('-n, --limit <count>', 'how many rows', '20');
  verb(aside, 'export <run>', 'the rows as NDJSON or CSV (audited)', quarantine('exportRows'), [
    'godwit quarantine export shop/12 --table public.orders --format csv --file bad.csv',
  ])
    .option(...ofTable)
    .addOption(new Option('--format <format>', 'of the file').choices(['ndjson', 'csv']).default('ndjson'))
    .option('--file <path>', 'instead of stdout');
  verb(
    aside,
    'replay <run>',
    'write them into their tables, after the target or the mapping was mended',
    quarantine('replay'),
    ['godwit quarantine replay shop/12'],
  ).option(...ofTable);
  verb(aside, 'waive <run>', 'give them up', quarantine('waive'), [
    'godwit quarantine waive shop/12 --note "test orders"',
  ])
    .option(...ofTable)
    .option('--note <text>', 'why');

  godwit.commandsGroup('Parts of an installation:');
  verb(
    godwit,
    'worker',
    'run a worker (needs DATABASE_URL and TEMPORAL_ADDRESS)',
    async () => (await import('./verbs/serve.ts')).worker,
  );
  verb(
    godwit,
    'api',
    'run the API (needs DATABASE_URL and TEMPORAL_ADDRESS)',
    async () => (await import('./verbs/serve.ts')).api,
  );
  verb(
    godwit,
    'schema',
    'the JSON Schema of a mapping, for editors',
    async () => (await import('./verbs/schema.ts')).schema,
    ['godwit schema > mapping.schema.json'],
  );
  verb(
    godwit,
    'completion <shell>',
    'completion for bash, zsh or fish',
    async () => (await import('./verbs/completion.ts')).completion,
    ['source <(godwit completion bash)', 'godwit completion fish > ~/.config/fish/completions/godwit.fish'],
  );
  godwit.addHelpText(
    'after',
    `
Settings come from environment variables (docs/settings.md): GODWIT_HOME, DATABASE_URL, TEMPORAL_ADDRESS, HOST, PORT,
GODWIT_URL, GODWIT_TOKEN, GODWIT_KEY …
Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 3 partial, 4 skipped, 130 canceled.

Start here:
  $ godwit demo              see it move real data
  $ godwit run shop.yaml     run a mapping (docs/mapping.md)`,
  );
  return godwit;
}

const actions = {
  pause: 'pause a run, or one table of it, at the next chunk',
  resume: 'go on with what was paused',
  cancel: 'end a run and leave nothing of it behind (--table: skip that table)',
  retry: 'go on with what failed, from its last checkpoint',
} as const;

const scheduleActions = {
  pause: 'start no more runs by it; one that goes on is not touched',
  resume: 'start runs again at its next time',
  trigger: 'start a run of its tables now',
} as const;

const addExamples = {
  connection: [
    'godwit connection add main -t pgsql url=db.example.org:5432 username=godwit password=env:MAIN_PASSWORD',
    'godwit connection add cluster -t mongo url=mongodb://godwit@a.example.org,b.example.org/?replicaSet=rs0 password=env:MONGO_PASSWORD',
  ],
  source: [
    'godwit source add shop-db -c main db_name=shop',
    'godwit source add shop-db -t pgsql url=postgresql://user@host/shop password=env:SHOP_PASSWORD',
    'godwit source add shop-db -t mysql url=host:3306/shop username=reader password=env:SHOP_PASSWORD',
    'godwit source add crm -c cluster db_name=crm',
  ],
  target: [
    'godwit target add lake -t s3 s3_bucket_name=lake region=eu-west-1',
    'godwit target add lake -t files path=./lake format=parquet',
  ],
};

function version(): string {
  return (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;
}

/** Runs one command line and answers its exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let code: number = exits.succeeded;
  const wanted = argv.some(
    (word, i) =>
      word === '--output=json' || word === '-ojson' || (word === 'json' && /^(-o|--output)$/.test(argv[i - 1] ?? '')),
  );
  const format: OutputFormat = wanted ? 'json' : 'text';
  const out = makeOutput(format);
  const godwit = program(async (load, args) => {
    const command = args.at(-1) as Command;
    const operands = (args.slice(0, -2) as (string | string[] | undefined)[]).flat().filter((one) => one !== undefined);
    const [action, { readConfig }] = await Promise.all([load(), import('../config.ts')]);
    code =
      (await action({ out, options: command.opts(), program: godwit, config: readConfig() }, ...operands)) ??
      exits.succeeded;
  });
  for (const command of commandsOf(godwit)) command.exitOverride();
  if (argv.length === 0) {
    godwit.outputHelp();
    return exits.usage;
  }
  try {
    await godwit.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return exits.succeeded;
      if (format === 'json') showError(new GodwitError('USAGE', error.message.replace(/^error: /, '')), out);
      return exits.usage;
    }
    const failure = asGodwitError(error);
    showError(failure, out);
    return exitOfError(failure);
  }
}

function* commandsOf(command: Command): Iterable<Command> {
  yield command;
  for (const child of command.commands) yield* commandsOf(child);
}

const wrongInput: readonly string[] = ['USAGE', 'MAPPING_INVALID', 'SETTINGS_INVALID', 'SCHEDULE_INVALID'];

function exitOfError({ code }: GodwitError): number {
  if (wrongInput.includes(code)) return exits.usage;
  if (code === 'CANCELED') return exits.canceled;
  return code === 'ALREADY_RUNNING' ? exits.skipped : exits.failed;
}

/** A reader of our output that went away (`| head`) is no failure. */
function quietPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(exits.succeeded);
      throw error;
    });
  }
}

if (import.meta.main) {
  quietPipe();
  process.exitCode = await main(process.argv.slice(2));
  // Pools and sockets of libraries do not keep a finished command alive.
  setTimeout(() => process.exit(), 1_000).unref();
}
