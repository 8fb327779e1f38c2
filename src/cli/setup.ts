/** `kontrast setup`. It must work before there is a LibTorch, so nothing here loads the addon. */
import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { describePlan, downloadWheels, planSetup, setupLibTorch, type SetupOptions, type SetupPlan } from '../libtorch';
import { BarProgress } from './download-bar';
import { InvalidArgumentError } from '../torch/errors';
import { exitCodes } from './exit-codes';
import { CommandFailure } from './failure';
import { log, print } from './output';

/** The options of the command. */
export interface SetupFlags {
  cuda?: boolean;
  variant?: string;
  cpu?: boolean;
  dryRun?: boolean;
  json?: boolean;
  yes?: boolean;
  force?: boolean;
  indexUrl?: string;
  wheels?: string;
  downloadOnly?: string;
}

/** Runs the command. */
export async function setup(flags: SetupFlags): Promise<void> {
  checkFlags(flags);
  const { cuda, variant, cpu, force, indexUrl, wheels } = flags;
  const options: SetupOptions = { cuda, variant, cpu, force, indexUrl, wheels, log: print };
  options.confirm = async (plan) => confirm(plan, flags);
  if (process.stderr.isTTY) options.progress = new BarProgress(process.stderr);
  try {
    if (flags.dryRun === true) await dryRun(flags, options);
    else if (flags.downloadOnly !== undefined) await gather(flags.downloadOnly, flags, options);
    else await setupLibTorch(options);
  } catch (error) {
    throw error instanceof InvalidArgumentError ? new CommandFailure(exitCodes.usage, error) : error;
  }
}

async function gather(folder: string, { cuda, variant }: SetupFlags, options: SetupOptions): Promise<void> {
  const paths = await downloadWheels(folder, options);
  const build = variant === undefined ? (cuda === true ? ' --cuda' : '') : ` --cuda --variant ${variant}`;
  print(
    `${paths.length} wheels are in ${folder}; on the other machine: npx kontrast setup --wheels <that folder>${build}`,
  );
}

function checkFlags(flags: SetupFlags): void {
  const refuse = (text: string): never => {
    throw new CommandFailure(exitCodes.usage, new InvalidArgumentError(text));
  };
  if (flags.json === true && flags.dryRun !== true) refuse('--json is the form of the plan: give --dry-run as well');
  if (flags.wheels !== undefined && flags.indexUrl !== undefined) {
    refuse('--wheels takes everything from a folder, and so --index-url has no use: give one of them');
  }
  if (flags.wheels !== undefined && flags.downloadOnly !== undefined) {
    refuse('--download-only gathers what --wheels takes: give one of them');
  }
}

async function dryRun({ json, downloadOnly }: SetupFlags, options: SetupOptions): Promise<void> {
  // Of JSON nothing else may be on the standard output.
  const tell = json === true ? log : print;
  const result = await planSetup({
    ...options,
    force: options.force === true || downloadOnly !== undefined,
    log: tell,
  });
  if (json === true) print(JSON.stringify('plan' in result ? result.plan : { found: result.found }, null, 2));
  else if ('plan' in result) describePlan(result.plan).forEach(print);
  else
    print(
      `LibTorch ${result.found.version} (${result.found.variant}) is there: ${result.found.root}. Nothing would be downloaded.`,
    );
}

/** A build for the CPU is small and was asked for; one with CUDA takes gigabytes, and a person is asked. */
async function confirm(plan: SetupPlan, { yes }: SetupFlags): Promise<boolean> {
  describePlan(plan).forEach(print);
  const isPerson = process.stdin.isTTY && process.stdout.isTTY;
  if (yes === true || !isPerson || plan.variant === 'cpu') return true;
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    // The end of the input is no yes.
    const ended = once(prompt, 'close').then(() => 'no');
    return /^(y|yes)?$/i.test((await Promise.race([prompt.question('Go on? [Y/n] '), ended])).trim());
  } finally {
    prompt.close();
  }
}
