/**
 * Calls every operator with random and hostile arguments, in processes that may crash, and lists the calls that ended one.
 *
 *     npx ts-node --transpile-only bench/hostile/run.ts [--seed 1] [--calls 20] [--out bench/results/hostile.json]
 *
 * A crash is tried once more alone, in a process of its own: what does not repeat is marked so. A call that says nothing for 20 s is
 * stopped and listed as one that hangs.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { libtorchBuild, operatorSchemas } from '../../src/torch';
import { writeFileAtomic } from '../../src/torch/files';
import { makeCall, triedSchemas } from './calls';

const silence = 20_000;
/** What a process may take of address space, in KiB: a shape that asks for more is an error, not a machine that swaps. */
const addressSpace = 24 << 20;

interface Ending {
  schema: number;
  call: number;
  how: string;
  message: string;
}

interface Crash {
  operator: string;
  how: string;
  repeats: boolean;
  call: unknown;
  message: string;
}

/** Runs a child from a place until it ends; null when it came to its own end. */
function runChild(args: readonly string[]): Promise<Ending | null> {
  const program = ['-r', 'ts-node/register/transpile-only', join(__dirname, 'child.ts'), ...args];
  const command = `ulimit -v ${String(addressSpace)}; ulimit -c 0; exec "$0" "$@"`;
  const child = spawn('sh', ['-c', command, process.execPath, ...program], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  return new Promise((resolve) => {
    let last = '';
    let rest = '';
    let errors = '';
    let hangs = false;
    const give = (): void => {
      hangs = true;
      child.kill('SIGKILL');
    };
    // The first line waits for the start of the process.
    let timer = setTimeout(give, 4 * silence);
    child.stdout.on('data', (data: Buffer) => {
      clearTimeout(timer);
      timer = setTimeout(give, silence);
      const lines = (rest + data.toString()).split('\n');
      rest = lines.pop()!;
      last = lines.at(-1) ?? last;
    });
    child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) {
        resolve(null);
        return;
      }
      const [schema = NaN, call = NaN] = last.split(' ').map(Number);
      const how = hangs
        ? 'hangs'
        : (signal ?? (code! > 128 ? `signal ${String(code! - 128)}` : `exit ${String(code)}`));
      resolve({ schema, call, how, message: errors });
    });
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { seed: { type: 'string' }, calls: { type: 'string' }, out: { type: 'string' } },
  });
  const { seed = '1', calls = '20', out } = values;
  const schemas = triedSchemas(operatorSchemas());
  const crashes: Crash[] = [];
  const perSchema = new Map<number, number>();
  let [schema, call] = [0, 0];
  for (;;) {
    const ending = await runChild([seed, calls, String(schema), String(call)]);
    if (ending === null) break;
    if (Number.isNaN(ending.schema)) throw new Error(`the child did not start: ${ending.message}`);
    const again = await runChild([seed, calls, String(ending.schema), String(ending.call), 'one']);
    const made = makeCall(schemas[ending.schema]!, Number(seed), ending.call);
    crashes.push({
      operator: made.operator,
      how: ending.how,
      repeats: again !== null,
      call: made,
      message: (again ?? ending).message.trim().split('\n').slice(-6).join('\n').slice(0, 600),
    });
    process.stdout.write(`${made.operator}: ${ending.how}${again === null ? ' (does not repeat)' : ''}\n`);
    const count = (perSchema.get(ending.schema) ?? 0) + 1;
    perSchema.set(ending.schema, count);
    // After three crashes an operator has said what it has to say.
    [schema, call] = count >= 3 ? [ending.schema + 1, 0] : [ending.schema, ending.call + 1];
  }
  const summary = `${String(schemas.length * Number(calls))} calls of ${String(schemas.length)} operators: ${String(crashes.length)} ended the process`;
  process.stdout.write(`${summary}\n`);
  if (out !== undefined) {
    const { version } = libtorchBuild();
    writeFileAtomic(out, `${JSON.stringify({ libtorch: version, seed, calls, summary, crashes }, null, 1)}\n`);
  }
}

void main();
