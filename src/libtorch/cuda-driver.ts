/** Finds NVIDIA's driver and says which CUDA it supports. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compareReleases } from './version';

/** One GPU. */
export interface Gpu {
  name: string;
  /** Compute capability, such as `9.0`; null where the driver does not tell. */
  capability: string | null;
}

/** The driver of NVIDIA's GPUs. */
export interface CudaDriver {
  /** Its version, such as `580.65.06`. */
  version: string;
  /** The newest CUDA that it supports in full, such as `13.0`. */
  cuda: string;
  /** What it drives; empty where it does not tell. */
  gpus: readonly Gpu[];
  /** Where this is known from. */
  source: string;
}

/** The driver, or every place that was looked at with what was there. */
export type DriverSearch = { driver: CudaDriver } | { looked: readonly string[] };

/** What the search depends on; there for tests. */
export interface DriverOptions {
  env?: NodeJS.ProcessEnv;
  platform?: NodeJS.Platform;
  /** Runs a program and gives its output, or why there is none. */
  run?: (program: string, args: readonly string[]) => { output: string } | { failed: string };
  /** Reads a file; null when there is none. */
  read?: (path: string) => string | null;
}

const versionFile = '/proc/driver/nvidia/version';

/** Asks `nvidia-smi`, also that of Windows under WSL; on Linux the kernel's module as well. Starts a process. */
export function findCudaDriver(options: DriverOptions = {}): DriverSearch {
  const { env = process.env, platform = process.platform, read = readText } = options;
  const run = options.run ?? ((program, args) => runProgram(program, args, env));
  if (platform === 'darwin') return { looked: ['this is macOS, which has no CUDA'] };
  const looked: string[] = [];
  for (const program of programs(platform, env)) {
    const answer = run(program, []);
    const driver = 'failed' in answer ? answer.failed : readTable(answer.output, program, run);
    if (typeof driver !== 'string') return { driver };
    looked.push(`${program}: ${driver}`);
  }
  if (platform === 'linux') {
    const text = read(versionFile);
    const version = /Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)/.exec(text ?? '')?.[1];
    const cuda = version === undefined ? null : cudaOfDriver(version);
    if (version !== undefined && cuda !== null) return { driver: { version, cuda, gpus: [], source: versionFile } };
    looked.push(`${versionFile}: ${text === null ? 'no such file' : 'no version that is known'}`);
  }
  return { looked };
}

function programs(platform: NodeJS.Platform, env: NodeJS.ProcessEnv): string[] {
  if (platform === 'win32') {
    return [
      'nvidia-smi',
      join(env.SystemRoot || 'C:\\Windows', 'System32', 'nvidia-smi.exe'),
      join(env.ProgramFiles || 'C:\\Program Files', 'NVIDIA Corporation', 'NVSMI', 'nvidia-smi.exe'),
    ];
  }
  // Under WSL the driver is that of Windows, and its tools are not always on the PATH.
  return ['nvidia-smi', '/usr/lib/wsl/lib/nvidia-smi'];
}

/** Reads the table that `nvidia-smi` prints, or says why it is none. */
function readTable(table: string, program: string, run: NonNullable<DriverOptions['run']>): CudaDriver | string {
  const version = /Driver Version:?\s*(\d+(?:\.\d+)+)/.exec(table)?.[1];
  if (version === undefined) return `it printed no driver's version: ${firstLine(table)}`;
  const cuda = /CUDA(?: UMD)? Version:?\s*(\d+\.\d+)/.exec(table)?.[1] ?? cudaOfDriver(version);
  if (cuda === null) return `the driver ${version} is older than CUDA 12.0`;
  const answer = run(program, ['--query-gpu=name,compute_cap', '--format=csv,noheader']);
  const gpus = 'failed' in answer ? [] : readGpus(answer.output);
  return { version, cuda, gpus, source: program };
}

function readGpus(lines: string): Gpu[] {
  return lines
    .split(/\r?\n/)
    .map((line) => /^\s*(.+?)\s*,\s*([^,]*?)\s*$/.exec(line))
    .filter((match) => match !== null)
    .map(([, name, capability]) => ({
      name: name!,
      capability: /^\d+\.\d+$/.test(capability!) ? capability! : null,
    }));
}

/** The driver that first came with each CUDA, the newest first. */
const firstDrivers: readonly (readonly [driver: string, cuda: string])[] = [
  ['595', '13.2'],
  ['590', '13.1'],
  ['580', '13.0'],
  ['575', '12.9'],
  ['570', '12.8'],
  ['560', '12.6'],
  ['555', '12.5'],
  ['550', '12.4'],
  ['545', '12.3'],
  ['535', '12.2'],
  ['530', '12.1'],
  ['525', '12.0'],
];

/** The newest CUDA that a driver is known to support in full; null before 12.0. */
export function cudaOfDriver(version: string): string | null {
  return firstDrivers.find(([first]) => compareReleases(version, first) >= 0)?.[1] ?? null;
}

function runProgram(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): { output: string } | { failed: string } {
  const { error, status, stdout, stderr } = spawnSync(program, [...args], { env, encoding: 'utf8', timeout: 30_000 });
  if (error !== undefined) {
    const isAbsent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return { failed: isAbsent ? 'no such program' : error.message };
  }
  // It explains failures on its normal output.
  return status === 0
    ? { output: stdout }
    : { failed: firstLine(stdout) || firstLine(stderr) || `exit status ${status}` };
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0]!.trim();
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
