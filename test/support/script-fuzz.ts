/**
 * A child process that loads damaged TorchScript files: `script-fuzz.ts <file> <seed> <from> <to>`. It says which damage it is at before
 * each, so that its parent knows which one ended it, and what came of it after each: loaded, or the error's class and code.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KontrastError, ScriptModule, scope, torch } from '../../src/torch';
import { mutate } from './script-archive';

const [file, seed, from, to] = process.argv.slice(2) as [string, string, string, string];
const sound = readFileSync(file);
const folder = mkdtempSync(join(tmpdir(), 'kontrast-script-fuzz-'));
const damaged = join(folder, 'damaged.pt');

function attempt(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof KontrastError)) throw error;
  }
}

function outcome(): string {
  try {
    scope(() => {
      using module = ScriptModule.loadSync(damaged);
      for (const tensor of [...module.parameters().values(), ...module.buffers().values()]) tensor.sum().itemSync();
      // The input of one file, of another, and arguments at which a third fails, so that it tells where in its source.
      attempt(() => module.forward(torch.ones([4, 3])));
      attempt(() => module.forward(torch.ones([1, 1, 5, 7])));
      attempt(() => module.run('product', torch.ones([2, 3]), torch.ones([2, 3])));
    });
    return 'loaded';
  } catch (error) {
    return error instanceof KontrastError ? `${error.name} ${error.code}` : `not a KontrastError: ${String(error)}`;
  }
}

/** Writes at once, so that nothing is lost when the process ends; a pipe that is full takes more when its reader has caught up. */
function say(text: string): void {
  for (let rest = Buffer.from(text); rest.length > 0;) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

for (let index = Number(from); index < Number(to); index++) {
  say(`${index} `);
  writeFileSync(damaged, mutate(sound, Number(seed), index));
  say(`${outcome()}\n`);
}
rmSync(folder, { recursive: true });
