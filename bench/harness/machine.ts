import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';

/** The machine that a benchmark ran on. */
export interface Machine {
  readonly processor: string;
  /** Processors that this process may use. */
  readonly cores: number;
  /** Instruction sets that decide which kernels run, as the system names them; empty where it does not say. */
  readonly capabilities: readonly string[];
  readonly memoryBytes: number;
  readonly system: string;
  /** Runnable processes over the last minute before the run, averaged: well above 0, the times are noisy. */
  readonly loadAverage: number;
}

/** The state of the sources that ran. */
export interface Commit {
  readonly hash: string;
  /** Whether tracked files differed from the commit. */
  readonly modified: boolean;
}

/** From the least to the most that LibTorch makes use of. */
const CAPABILITIES = [
  'asimd',
  'sve',
  'avx2',
  'fma',
  'f16c',
  'avx512f',
  'avx512bw',
  'avx512vl',
  'avx512_vnni',
  'avx512_bf16',
  'avx512_fp16',
  'amx_tile',
  'amx_int8',
  'amx_bf16',
];

/** Describes the machine. */
export function describeMachine(): Machine {
  const cpus = os.cpus();
  return {
    processor: cpus.at(0)?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    capabilities: capabilitiesOf(processorFlags()),
    memoryBytes: os.totalmem(),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    loadAverage: os.loadavg()[0],
  };
}

/** The flags that matter to LibTorch, in a fixed order. */
export function capabilitiesOf(flags: readonly string[]): string[] {
  return CAPABILITIES.filter((capability) => flags.includes(capability));
}

/** A short name for a kind of machine, for file names: `linux-x64-2-cores-avx512-bf16`. */
export function machineKind(machine: Pick<Machine, 'cores' | 'capabilities'>): string {
  const has = (capability: string): boolean => machine.capabilities.includes(capability);
  const level = has('amx_bf16')
    ? '-amx'
    : has('avx512_bf16')
      ? '-avx512-bf16'
      : has('avx512f')
        ? '-avx512'
        : has('avx2')
          ? '-avx2'
          : '';
  return `${process.platform}-${process.arch}-${machine.cores}-cores${level}`;
}

/** The commit checked out in a folder; undefined where there is none or no git. */
export function describeCommit(folder: string): Commit | undefined {
  const git = (...parameters: string[]): string =>
    execFileSync('git', parameters, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return { hash: git('rev-parse', 'HEAD'), modified: git('status', '--porcelain', '--untracked-files=no') !== '' };
  } catch {
    return undefined;
  }
}

function processorFlags(): string[] {
  try {
    return /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].trim().split(/\s+/) ?? [];
  } catch {
    return [];
  }
}
