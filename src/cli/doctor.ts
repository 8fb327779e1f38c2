/** `kontrast doctor`: whether everything works here, on one page, with a fix for what does not. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, freemem, release, totalmem } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { findAddon, type Addon } from '../libtorch/addon';
import { cacheFolder } from '../libtorch/cache';
import { findCudaDriver } from '../libtorch/cuda-driver';
import { locateLibTorch, type LibTorch } from '../libtorch/locate';
import { glibcVersion, ownPlatform } from '../libtorch/platforms';
import { ownPackageRoot } from '../libtorch/record';
import { computingProgram, runProgram } from '../libtorch/trial';
import type { Device } from '../torch';
import { exitCodes } from './exit-codes';
import { print } from './output';

/** What was looked at, what was found, and what to do where it is not as it should be. */
export interface Finding {
  what: string;
  status: 'ok' | 'warning' | 'failure';
  found: string;
  fix?: string;
  /** Measured numbers, by name. */
  numbers?: Record<string, number>;
}

/**
 * Billions of additions and multiplications a second and thread of a product of two float32 matrices [1024, 1024], below which something is
 * wrong: a quarter of what one thread of an AMD EPYC reached with AVX-512, and less with narrower vectors.
 */
const leastGigaflops: Readonly<Record<string, number>> = { AVX512: 15, AVX2: 10, DEFAULT: 1 };

/** Runs all checks in turn; none throws. */
export function diagnose(env: NodeJS.ProcessEnv = process.env): Finding[] {
  const findings: Finding[] = [checkNode(), checkSystem(), checkCache(env)];
  const addon = attempt(findings, 'addon', findAddon);
  const libtorch = attempt(findings, 'LibTorch', () => locateLibTorch({ builtFor: addon?.builtFor ?? undefined }));
  if (addon !== null) findings.push(describeAddon(addon));
  if (libtorch !== null) findings.push(describeLibTorch(libtorch));
  if (addon === null || libtorch === null) return findings;
  findings.push(checkDriver(libtorch));
  const loads = checkLoading(env);
  findings.push(loads);
  // What ends a process that tries it must not end this one.
  if (loads.status === 'failure') return findings;
  const devices: Device[] = ['cpu', ...cudaDevices()];
  return [
    ...findings,
    checkLibraries(),
    checkThreads(),
    checkMemory(),
    ...devices.flatMap((device) => [checkTraining(device), checkSpeed(device)]),
  ];
}

/** `kontrast doctor`. @returns the exit code */
export function doctor(flags: { json?: boolean }): number {
  const findings = diagnose();
  const count = (status: Finding['status']): number => findings.filter((finding) => finding.status === status).length;
  if (flags.json === true) print(JSON.stringify(findings, null, 2));
  else {
    const marks = { ok: 'ok  ', warning: 'WARN', failure: 'FAIL' } as const;
    const width = Math.max(...findings.map(({ what }) => what.length));
    for (const { what, status, found, fix } of findings) {
      const [first, ...rest] = found.split('\n');
      print(`${marks[status]}  ${what.padEnd(width)}  ${first}`);
      for (const line of rest) print(`${' '.repeat(width + 8)}${line}`);
      if (fix !== undefined) print(`${' '.repeat(width + 8)}fix: ${fix}`);
    }
    const [failures, warnings] = [count('failure'), count('warning')];
    print('');
    print(
      failures > 0
        ? `kontrast does not work here: ${failures} of ${findings.length} checks failed`
        : `kontrast works here${warnings > 0 ? `, with ${warnings} warning${warnings > 1 ? 's' : ''}` : ''}`,
    );
  }
  return count('failure') > 0 ? exitCodes.failed : exitCodes.ok;
}

function attempt<T>(findings: Finding[], what: string, body: () => T): T | null {
  try {
    return body();
  } catch (error) {
    findings.push({ what, status: 'failure', found: (error as Error).message });
    return null;
  }
}

function checkNode(): Finding {
  const manifest = join(ownPackageRoot, 'package.json');
  const { engines, version } = JSON.parse(readFileSync(manifest, 'utf8')) as {
    engines: { node: string };
    version: string;
  };
  const least = engines.node
    .replace(/[^\d.]/g, '')
    .split('.')
    .map(Number);
  const own = process.versions.node.split('.').map(Number);
  const isOld = own[0]! < least[0]! || (own[0] === least[0] && own[1]! < (least[1] ?? 0));
  const found = `kontrast ${version}, Node.js ${process.version}`;
  if (!isOld) return { what: 'versions', status: 'ok', found };
  return { what: 'versions', status: 'failure', found, fix: `use Node.js ${least.join('.')} or newer` };
}

function checkSystem(): Finding {
  const glibc = glibcVersion();
  const library = process.platform !== 'linux' ? '' : glibc === null ? ', no GNU C library' : `, glibc ${glibc}`;
  const found = `${ownPlatform}, ${release()}${library}, ${cpus()[0]?.model.trim() ?? 'unknown processor'}`;
  return { what: 'system', status: 'ok', found };
}

function checkCache(env: NodeJS.ProcessEnv): Finding {
  const folder = cacheFolder(env);
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return { what: 'cache', status: 'ok', found: folder };
  } catch (error) {
    return {
      what: 'cache',
      status: 'warning',
      found: `${folder} cannot be written (${(error as Error).message}); every start tries the addon anew`,
      fix: 'KONTRAST_CACHE=<a folder that can be written>',
    };
  }
}

function describeAddon({ folder, source, builtFor }: Addon): Finding {
  const from = source === 'build' ? 'compiled here' : `npm package ${basename(dirname(folder))}/${basename(folder)}`;
  return {
    what: 'addon',
    status: 'ok',
    found: `${from}, for LibTorch ${builtFor ?? 'of an unknown release'}\n${folder}`,
  };
}

function describeLibTorch({ version, variant, source, root }: LibTorch): Finding {
  return { what: 'LibTorch', status: 'ok', found: `${version} (${variant}), from: ${source}\n${root}` };
}

function checkDriver(libtorch: LibTorch): Finding {
  const found = findCudaDriver();
  const what = 'CUDA';
  if (!('driver' in found)) {
    if (!libtorch.hasCuda) return { what, status: 'ok', found: "no NVIDIA driver, and LibTorch's build for the CPU" };
    return {
      what,
      status: 'warning',
      found: `LibTorch is a CUDA build, but there is no driver: ${found.looked.join('; ')}`,
      fix: "install NVIDIA's driver, in a container run it with the GPU (--gpus all), or be content with the CPU",
    };
  }
  const { version, cuda } = found.driver;
  if (libtorch.hasCuda) {
    return {
      what,
      status: 'ok',
      found: `driver ${version} (up to CUDA ${cuda}), LibTorch's CUDA ${libtorch.cudaVersion ?? 'unknown'}`,
    };
  }
  return {
    what,
    status: 'warning',
    found: `driver ${version} is there (up to CUDA ${cuda}), but LibTorch's build is for the CPU`,
    fix: 'npx kontrast setup --cuda',
  };
}

/** Computes in another process, which may end as it likes. */
function checkLoading(env: NodeJS.ProcessEnv): Finding {
  const started = performance.now();
  const { status, signal, stderr } = runProgram(computingProgram, env);
  const seconds = (performance.now() - started) / 1000;
  const what = 'loading';
  if (status === 0) {
    return { what, status: 'ok', found: `${seconds.toFixed(2)} s from start to first result`, numbers: { seconds } };
  }
  const said = stderr.trim().split('\n').slice(0, 6).join('\n');
  return {
    what,
    status: 'failure',
    found: `a process that loads LibTorch ended with ${signal ?? `exit status ${status}`}\n${said}`,
    fix: 'reinstall kontrast; where that does not help, name another LibTorch by LIBTORCH, or report this page (--json)',
  };
}

type Torch = typeof import('..');

function load(): Torch {
  return createRequire(__filename)('..') as Torch;
}

function cudaDevices(): Device[] {
  return Array.from({ length: load().cuda.deviceCount() }, (_, index) => `cuda:${index}` as const);
}

/** Which files the system has opened for the libraries that matter, where it tells. */
function checkLibraries(): Finding {
  load();
  const what = 'libraries';
  if (!existsSync('/proc/self/maps'))
    return { what, status: 'ok', found: 'this system does not tell where they are from' };
  const opened = new Set(readFileSync('/proc/self/maps', 'utf8').match(/\/\S+\.so[.\d]*/g));
  const wanted = /\/lib(torch_cpu|torch_cuda|c10|c10_cuda|gomp|iomp5|omp|stdc\+\+|cuda|cudart)[-.]/;
  const files = [...opened].filter((file) => wanted.test(file)).sort();
  const threading = files.filter((file) => /\/lib(gomp|iomp5|omp)[-.]/.test(file));
  if (threading.length <= 1) return { what, status: 'ok', found: files.join('\n') };
  return {
    what,
    status: 'warning',
    found: `${files.join('\n')}\n${threading.length} libraries for threads (OpenMP), which get into each other's way`,
    fix: 'unset LD_PRELOAD, and load kontrast before other native packages',
  };
}

/** The processors that a container's limit leaves, where there is one. */
function processorLimit(): number | null {
  try {
    const [quota, period] = readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').trim().split(' ');
    return quota === 'max' ? null : Number(quota) / Number(period);
  } catch {
    return null;
  }
}

function checkThreads(): Finding {
  const threads = load().getThreads();
  const limit = Math.min(processorLimit() ?? Infinity, availableParallelism());
  const found = `${threads}, on ${cpus().length} processors, of which ${limit.toFixed(limit % 1 === 0 ? 0 : 1)} may be used`;
  if (threads <= Math.ceil(limit)) return { what: 'threads', status: 'ok', found };
  return { what: 'threads', status: 'warning', found, fix: `OMP_NUM_THREADS=${Math.max(1, Math.floor(limit))}` };
}

function checkMemory(): Finding {
  const gigabytes = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
  const found = `${gigabytes(freemem())} of ${gigabytes(totalmem())} GiB are free`;
  if (freemem() >= 2 ** 30) return { what: 'memory', status: 'ok', found };
  return { what: 'memory', status: 'warning', found, fix: 'close other programs, or use smaller batches' };
}

/** Trains a small encoder for a few steps: everything that training needs, with the losses to show for it. */
function checkTraining(device: Device): Finding {
  const what = `training on ${device}`;
  const { AdamW, Generator, InfoNCE, Linear, ReLU, Sequential, scope, synchronize, torch } = load();
  try {
    return scope(() => {
      const generator = new Generator({ seed: 0 });
      const layer = (inFeatures: number, outFeatures: number) => new Linear({ inFeatures, outFeatures, generator });
      const encoder = new Sequential(layer(64, 128), new ReLU(), layer(128, 32)).to({ device });
      const objective = new InfoNCE({ temperature: 0.1, inBatchNegatives: true });
      const optimizer = new AdamW(encoder.parameters(), { lr: 1e-3 });
      const x = torch.randn([256, 64], { generator }).to({ device });
      const noise = torch.randn([256, 64], { generator }).mul(0.3).to({ device });
      const times: number[] = [];
      const losses: number[] = [];
      for (let step = 0; step < 20; step++) {
        const started = performance.now();
        losses.push(
          scope(() => {
            const loss = objective.forward(encoder.forward(x.add(noise)), encoder.forward(x));
            loss.backward();
            optimizer.step();
            optimizer.zeroGrad();
            return loss.itemSync();
          }),
        );
        if (device !== 'cpu') synchronize(device);
        times.push(performance.now() - started);
      }
      const milliseconds = median(times);
      const [first, last] = [losses[0]!, losses.at(-1)!];
      const found = `loss ${first.toFixed(3)} to ${last.toFixed(3)} in 20 steps, ${milliseconds.toFixed(2)} ms a step`;
      const learns = Number.isFinite(last) && last < first;
      const numbers = { firstLoss: first, lastLoss: last, milliseconds };
      if (learns) return { what, status: 'ok' as const, found, numbers };
      return { what, status: 'failure' as const, found, numbers, fix: 'the loss must fall: report this page (--json)' };
    });
  } catch (error) {
    return { what, status: 'failure', found: (error as Error).message };
  }
}

/** A product of matrices, beside what such a processor ought to reach. */
function checkSpeed(device: Device): Finding {
  const what = `speed of ${device}`;
  const { getThreads, libtorchBuild, scope, synchronize, torch } = load();
  try {
    return scope(() => {
      const size = device === 'cpu' ? 1024 : 4096;
      const a = torch.ones([size, size], { device });
      const times = Array.from({ length: 12 }, () => {
        const started = performance.now();
        a.matmul(a).dispose();
        if (device !== 'cpu') synchronize(device);
        return performance.now() - started;
      });
      const gigaflops = (2 * size ** 3) / 1e6 / median(times.slice(2));
      if (device !== 'cpu') {
        return {
          what,
          status: 'ok' as const,
          found: `${gigaflops.toFixed(0)} GFLOP/s in float32`,
          numbers: { gigaflops },
        };
      }
      const { cpuCapability } = libtorchBuild();
      const each = gigaflops / getThreads();
      const least = leastGigaflops[cpuCapability] ?? leastGigaflops.DEFAULT!;
      const found = `${gigaflops.toFixed(0)} GFLOP/s in float32, ${each.toFixed(0)} a thread (${cpuCapability}, at least ${least})`;
      const numbers = { gigaflops, gigaflopsPerThread: each };
      if (each >= least) return { what, status: 'ok' as const, found, numbers };
      return {
        what,
        status: 'warning' as const,
        found,
        numbers,
        fix: 'see whether other programs are busy, a container limits processors, or a laptop saves power',
      };
    });
  } catch (error) {
    return { what, status: 'failure', found: (error as Error).message };
  }
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!;
}
