import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { LibTorchSetupError } from './errors';
import { pythonCommand } from './python';

/** What to download and how. */
export interface DownloadOptions {
  /** The release of PyTorch, such as `2.13.0`. */
  version: string;
  /** A folder for the wheels; made when it isn't there. */
  destination: string;
  /** A Python package index instead of the configured one, for example one with CPU builds alone. */
  indexUrl?: string;
  env: NodeJS.ProcessEnv;
  /** Where pip's own output goes: to this process's output, or nowhere. */
  output: 'inherit' | 'ignore';
}

/**
 * The ways to start pip, in the order they are tried: Python's own, or the one that uv runs in an environment of its own (uv's
 * own `uv pip` can't download without installing).
 */
const pipCommands: readonly (readonly [string, ...string[]])[] = [
  [pythonCommand, '-m', 'pip'],
  ['uvx', 'pip'],
  ['pip3'],
];

/**
 * Downloads the wheel of PyTorch with pip and returns its path. A CPU build is asked for first (`2.13.0+cpu`, a third of the size);
 * where the index has no separate CPU builds, the plain release is taken.
 *
 * @throws LibTorchSetupError (`LIBTORCH_DOWNLOAD`) when there is no pip or pip fails; the message ends with pip's own words
 */
export async function downloadTorch(options: DownloadOptions): Promise<string> {
  const { version, destination } = options;
  mkdirSync(destination, { recursive: true });
  const pip = findPip(options.env);
  const attempts =
    process.platform === 'darwin' ? [`torch==${version}`] : [`torch==${version}+cpu`, `torch==${version}`];
  let failure = '';
  for (const requirement of attempts) {
    const result = await runPip(pip, ['--no-deps', requirement], options);
    if (result === null) return wheelOf(destination, 'torch', requirement);
    failure = result;
  }
  throw new LibTorchSetupError(
    `downloading torch==${version} with '${pip.join(' ')} download' failed:\n${indent(failure)}\n` +
      `Give pip a reachable package index (kontrast setup --index-url <url>, or PIP_INDEX_URL), ` +
      `or install PyTorch yourself (pip install torch==${version}), or set LIBTORCH to an unpacked LibTorch.`,
    { code: 'LIBTORCH_DOWNLOAD' },
  );
}

/**
 * Downloads what a CUDA build of PyTorch needs beside itself (NVIDIA's libraries are wheels of their own) and returns all
 * wheels in the folder, PyTorch's among them.
 *
 * @throws LibTorchSetupError (`LIBTORCH_DOWNLOAD`) when pip fails
 */
export async function downloadRequirements(torchWheel: string, options: DownloadOptions): Promise<string[]> {
  const pip = findPip(options.env);
  const failure = await runPip(pip, ['--find-links', options.destination, torchWheel], options);
  if (failure !== null) {
    throw new LibTorchSetupError(
      `downloading the libraries that a CUDA build of PyTorch needs failed:\n${indent(failure)}`,
      {
        code: 'LIBTORCH_DOWNLOAD',
      },
    );
  }
  return listWheels(options.destination);
}

function findPip(env: NodeJS.ProcessEnv): readonly [string, ...string[]] {
  for (const command of pipCommands) {
    const [program, ...rest] = command;
    if (spawnSync(program, [...rest, '--version'], { env, stdio: 'ignore', timeout: 120_000 }).status === 0)
      return command;
  }
  throw new LibTorchSetupError(
    `LibTorch is downloaded with pip, and there is none: '${pipCommands.map((command) => command.join(' ')).join("', '")}' all ` +
      `failed. Install Python 3 with pip (for example: apt-get install python3-pip) or uv, or set LIBTORCH to an unpacked LibTorch.`,
    { code: 'LIBTORCH_DOWNLOAD' },
  );
}

/** Runs `pip download` and returns `null`, or the end of what it wrote to its error output when it failed. */
function runPip(
  [program, ...rest]: readonly [string, ...string[]],
  requirement: readonly string[],
  { destination, indexUrl, env, output }: DownloadOptions,
): Promise<string | null> {
  const args = [...rest, 'download', '--only-binary', ':all:', '--disable-pip-version-check', '--dest', destination];
  if (indexUrl !== undefined) args.push('--index-url', indexUrl);
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args, ...requirement], { env, stdio: ['ignore', output, 'pipe'] });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-4000);
    });
    child.once('error', reject);
    child.once('close', (status, signal) => {
      if (status === 0) resolve(null);
      else resolve(errors.trim() || (signal ? `stopped by ${signal}` : `exit status ${status}`));
    });
  });
}

function wheelOf(folder: string, name: string, requirement: string): string {
  const wheel = listWheels(folder).find((path) => path.slice(folder.length + 1).startsWith(`${name}-`));
  if (wheel === undefined) {
    throw new LibTorchSetupError(`pip reported success for ${requirement} but left no wheel of it`, {
      code: 'LIBTORCH_DOWNLOAD',
    });
  }
  return wheel;
}

function listWheels(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.whl'))
    .sort()
    .map((name) => join(folder, name));
}

function indent(text: string): string {
  return text
    .split('\n')
    .slice(-12)
    .map((line) => `    ${line}`)
    .join('\n');
}
