/**
 * Calls every operator with random and hostile arguments, in processes that may crash, and lists the calls that ended one.
 *
 *     npx ts-node --transpile-only bench/hostile/run.ts [--seeds 1,2] [--calls 20] [--only <regular expression>]
 *       [--known bench/results/hostile-<machine>.json] [--out bench/results/hostile-<machine>.json] [--page docs/operators-that-crash.md]
 *
 * A crash is tried once more alone, in a process of its own: what does not repeat is marked so. A call that says nothing for 20 s is
 * stopped and listed as one that hangs. `--known` gives results of an earlier run: the calls that ended a process then are made again
 * first, and the results say what becomes of each.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { ModuleKind, ScriptTarget, sys, transpileModule } from 'typescript';
import { libtorchBuild, operatorSchemas } from '../../src/torch';
import { writeFileAtomic } from '../../src/torch/files';
import { callText, makeCall, triedSchemas, type Call } from './calls';
import type { Task } from './child';
import { pageOf, type Crash, type Known, type Results } from './page';

const root = resolve(__dirname, '..', '..');
const silence = 20_000;
/** What a process may take of address space, in KiB: a shape that asks for more is an error, not a machine that swaps. */
const addressSpace = 6 << 20;
/** After so many crashes an operator has said what it has to say. */
const mostCrashes = 3;

interface Ending {
  /** How the process ended; empty when it came to its own end. */
  how: string;
  schema: number;
  call: number;
  /** What the last call was refused with; undefined where it was not made alone. */
  result: string | undefined;
  errors: string;
}

/** A copy of the compiled sources with the addon: neither is compiled for each process, and a build does not disturb a run. */
function makeCopy(): string {
  const copy = join(root, 'build', `hostile-${String(process.pid)}`);
  const sources = ['src', 'bench/hostile', 'scripts/types'].flatMap((folder) =>
    sys.readDirectory(join(root, folder), ['.ts']),
  );
  for (const source of sources) {
    const { outputText } = transpileModule(sys.readFile(source)!, {
      compilerOptions: { module: ModuleKind.CommonJS, target: ScriptTarget.ES2022, esModuleInterop: true },
    });
    const target = join(copy, relative(root, source)).replace(/\.ts$/, '.js');
    mkdirSync(dirname(target), { recursive: true });
    writeFileAtomic(target, outputText);
  }
  cpSync(join(root, 'build', 'Release'), join(copy, 'build', 'Release'), { recursive: true });
  cpSync(join(root, 'package.json'), join(copy, 'package.json'));
  return copy;
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** Processes that do tasks until they crash. One is always started ahead. */
class Children {
  private spare: Child;

  /** The processes run in `folder`: some operators write files. */
  constructor(private readonly folder: string) {
    this.spare = this.start();
  }

  private start(): Child {
    const program = join(this.folder, 'bench', 'hostile', 'child.js');
    const command = `ulimit -v ${String(addressSpace)}; ulimit -c 0; exec "$0" "$@"`;
    return spawn('sh', ['-c', command, process.execPath, program], {
      cwd: this.folder,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
  }

  close(): void {
    this.spare.kill();
  }

  run(task: Task): Promise<Ending> {
    const child = this.spare;
    this.spare = this.start();
    // A process that could not start has closed its end; that shows below.
    child.stdin.on('error', () => undefined);
    child.stdin.end(`${JSON.stringify(task)}\n`);
    return new Promise((done, fail) => {
      let last = '';
      let rest = '';
      let errors = '';
      let result: string | undefined;
      let hangs = false;
      const give = (): void => {
        hangs = true;
        child.kill('SIGKILL');
      };
      let timer = setTimeout(give, 4 * silence);
      child.stdout.on('data', (data: Buffer) => {
        clearTimeout(timer);
        timer = setTimeout(give, silence);
        const lines = (rest + data.toString()).split('\n');
        rest = lines.pop()!;
        for (const line of lines) {
          if (line.startsWith('result ')) result = line.slice('result '.length);
          else if (/^\d+ \d+ \{/.test(line)) last = line;
        }
      });
      child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)));
      child.on('close', (code, signal) => {
        clearTimeout(timer);
        const ended = signal ?? (code! > 128 ? `signal ${String(code! - 128)}` : `exit ${String(code)}`);
        const [schema, call] = last.split(' ').map(Number) as [number, number];
        if (last === '' && code !== 0) fail(new Error(`a process did not start: ${errors}`));
        else done({ how: hangs ? 'hangs' : code === 0 ? '' : ended, schema, call, result, errors });
      });
    });
  }
}

function messageOf({ errors }: Ending): string {
  return errors.trim().split('\n').slice(-6).join('\n').slice(0, 600);
}

async function makeAgain(children: Children, crashes: readonly { call: Call; how: string }[]): Promise<Known[]> {
  const known: Known[] = [];
  for (const { call, how } of crashes) {
    const ending = await children.run({ made: call });
    known.push({ operator: call.operator, how, now: ending.how, refusal: ending.result ?? '', call });
    process.stdout.write(`${callText(call)}: ${how}, now ${ending.how || ending.result || 'returns'}\n`);
  }
  return known;
}

async function search(children: Children, seed: number, calls: number, only: string): Promise<Crash[]> {
  const schemas = triedSchemas(operatorSchemas(), only);
  const crashes: Crash[] = [];
  const perSchema = new Map<number, number>();
  let [schema, call] = [0, 0];
  while (schema < schemas.length) {
    const ending = await children.run({ seed, calls, only, schema, call });
    if (ending.how === '') break;
    const made = makeCall(schemas[ending.schema]!, seed, ending.call);
    const again = await children.run({ made });
    const message = messageOf(again.how === '' ? ending : again);
    crashes.push({ operator: made.operator, how: ending.how, repeats: again.how !== '', call: made, message });
    process.stdout.write(`${callText(made)}: ${ending.how}${again.how === '' ? ' (does not repeat)' : ''}\n`);
    const count = (perSchema.get(ending.schema) ?? 0) + 1;
    perSchema.set(ending.schema, count);
    [schema, call] = count >= mostCrashes ? [ending.schema + 1, 0] : [ending.schema, ending.call + 1];
  }
  return crashes;
}

/** A line for each operator and ending. */
function summaryTable(crashes: readonly Crash[]): string {
  const counts = new Map<string, number>();
  const width = Math.max(0, ...crashes.map(({ operator }) => operator.length));
  for (const { operator, how } of crashes) {
    const line = `${operator.padEnd(width)}  ${how.padEnd(8)}`;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  return [...counts].map(([line, count]) => `${line}  ${String(count)}\n`).join('');
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '1' },
      calls: { type: 'string', default: '20' },
      only: { type: 'string', default: '' },
      known: { type: 'string' },
      out: { type: 'string' },
      page: { type: 'string' },
    },
  });
  const seeds = values.seeds.split(',').map(Number);
  const calls = Number(values.calls);
  const overloads = triedSchemas(operatorSchemas(), values.only).length;
  const copy = makeCopy();
  const children = new Children(copy);
  const crashes: Crash[] = [];
  const known: Known[] = [];
  try {
    if (values.known !== undefined) {
      const before = JSON.parse(readFileSync(values.known, 'utf8')) as Results;
      known.push(...(await makeAgain(children, [...before.known, ...before.crashes])));
    }
    for (const seed of seeds) crashes.push(...(await search(children, seed, calls, values.only)));
  } finally {
    children.close();
    rmSync(copy, { recursive: true, force: true });
  }
  const { version } = libtorchBuild();
  const results: Results = {
    libtorch: version,
    seeds,
    overloads,
    calls: overloads * calls * seeds.length,
    known,
    crashes,
  };
  process.stdout.write(
    `\n${summaryTable(crashes)}${String(results.calls)} calls of ${String(overloads)} overloads: ${String(crashes.length)} ended the process\n`,
  );
  if (values.out !== undefined) writeFileAtomic(values.out, `${JSON.stringify(results, null, 1)}\n`);
  if (values.page !== undefined) writeFileAtomic(values.page, pageOf(results));
}

void main();
