/** Tries prebuilt binaries in a process of their own before this one opens them: what does not fit may end a process. */
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../torch/files';
import { KontrastError } from '../torch/errors';
import type { Addon } from './addon';
import { cacheFolder } from './cache';
import type { LibTorch } from './locate';
import { glibcVersion } from './platforms';
import { compareReleases } from './version';

/** Set in the process that tries, so that it does not try again. */
export const trialVariable = 'KONTRAST_TRIAL';

/** What a trial depends on; there for tests. */
export interface TrialOptions {
  env?: NodeJS.ProcessEnv;
  /** The program that is run in the new process: it has to load the addon and to compute. */
  program?: string;
  glibc?: string | null;
  /** What the processor can do; null where the system does not tell. */
  cpuFlags?: ReadonlySet<string> | null;
}

/**
 * Makes sure that a prebuilt addon and LibTorch work on this machine: the C library and the processor by what the package asks for, and
 * all the rest by a tensor computed in another process. What has worked once is noted in the cache folder and not tried again
 * until a file, the system or Node.js changes. It takes about half a second; afterwards reading the note takes a millisecond.
 *
 * @throws KontrastError (`ADDON_UNSUPPORTED`, `ADDON_TRIAL`) saying what was found, what was wanted, and what to do
 */
export function ensureTried(addon: Addon, libtorch: LibTorch, options: TrialOptions = {}): void {
  const { env = process.env } = options;
  // A build was made for this machine, and the process that tries must not try again.
  if (addon.source === 'build' || env[trialVariable] !== undefined) return;
  const note = join(cacheFolder(env), 'tried', `${fingerprint(addon, libtorch)}.json`);
  if (isNoted(note)) return;
  checkRequirements(addon, options);
  runTrial(addon, libtorch, options);
  try {
    mkdirSync(dirname(note), { recursive: true });
    writeFileAtomic(note, `${JSON.stringify({ addon: addon.folder, libtorch: libtorch.root })}\n`);
  } catch {
    // A home that cannot be written costs the next process another trial.
  }
}

function isNoted(note: string): boolean {
  try {
    readFileSync(note);
    return true;
  } catch {
    return false;
  }
}

/** Of all files that are opened, by name, size and time, and of what they run on. */
function fingerprint(addon: Addon, libtorch: LibTorch): string {
  const hash = createHash('sha256');
  for (const folder of [addon.folder, libtorch.lib]) {
    hash.update(folder);
    for (const name of readdirSync(folder).sort()) {
      if (!/\.(node|dylib|dll|so[.\d]*)$/.test(name)) continue;
      const { size, mtimeMs } = statSync(join(folder, name));
      hash.update(`\0${name}\0${size}\0${mtimeMs}`);
    }
  }
  hash.update(`\0${process.version}\0${process.arch}\0${release()}\0${cpus()[0]?.model ?? ''}`);
  return hash.digest('hex').slice(0, 32);
}

function checkRequirements({ folder, requirements }: Addon, options: TrialOptions): void {
  const { glibc = glibcVersion(), cpuFlags = processorFlags() } = options;
  const wanted = requirements?.glibc;
  if (wanted !== undefined && glibc !== null && compareReleases(glibc, wanted) < 0) {
    throw new KontrastError(
      `kontrast's prebuilt addon needs the GNU C library ${wanted} or newer, and this system has ${glibc}. ` +
        `Use a newer system or container image, or build from source on this one (docs/install.md).`,
      { code: 'ADDON_UNSUPPORTED' },
    );
  }
  const lacking = cpuFlags === null ? [] : (requirements?.cpu ?? []).filter((flag) => !cpuFlags.has(flag));
  if (lacking.length > 0) {
    throw new KontrastError(
      `kontrast's prebuilt addon (${folder}) needs a processor with ${lacking.join(', ')}, which this one (${cpus()[0]?.model ?? 'unknown'}) ` +
        'does not have; emulators and old virtual machines hide such instructions. Use another machine or machine type.',
      { code: 'ADDON_UNSUPPORTED' },
    );
  }
}

/** What Linux says that every processor can do. */
function processorFlags(): Set<string> | null {
  try {
    const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
    return flags === undefined ? null : new Set(flags.trim().split(/\s+/));
  } catch {
    return null;
  }
}

/** A program that loads LibTorch and computes with it. */
export const computingProgram = `
const { torch } = require(${JSON.stringify(join(__dirname, '..', 'torch'))});
const sum = torch.ones([8, 8]).matmul(torch.ones([8, 8])).sum().itemSync();
if (sum !== 512) throw new Error('8 × 8 × 8 ones came to ' + sum);
`;

/** Runs a program as a process that finds packages as this one does, and that does not try the addon again. */
export function runProgram(program: string, env: NodeJS.ProcessEnv): SpawnSyncReturns<string> {
  const nodeOptions = (env.NODE_OPTIONS ?? '').split(' ').filter((option) => !option.startsWith('--inspect'));
  return spawnSync(process.execPath, [...preloads(process.execArgv), '-e', program], {
    env: { ...env, [trialVariable]: '1', NODE_OPTIONS: nodeOptions.join(' '), ELECTRON_RUN_AS_NODE: '1' },
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 300_000,
  });
}

/** The options of Node that name what is loaded first: compilers, and Yarn's file that says where packages are. */
function preloads(options: readonly string[]): string[] {
  return options.flatMap((option, i) => {
    if (/^(-r|--require|--import|--loader)$/.test(option)) return options.slice(i, i + 2);
    return /^--(require|import|loader)=/.test(option) ? [option] : [];
  });
}

function runTrial(addon: Addon, libtorch: LibTorch, options: TrialOptions): void {
  const { env = process.env, program = computingProgram } = options;
  const result = runProgram(program, env);
  // Where no process may be started, the trial is this process itself.
  if (result.error !== undefined && (result.error as NodeJS.ErrnoException).code !== 'ETIMEDOUT') return;
  if (result.status === 0) return;
  throw new KontrastError(
    `kontrast's prebuilt addon does not run here: a process that tried it ${ending(result)}.\n` +
      `  addon: ${addon.folder}\n  LibTorch ${libtorch.version}: ${libtorch.root} (${libtorch.source})\n` +
      `${explanation(result.signal, result.stderr)}`,
    { code: 'ADDON_TRIAL' },
  );
}

function ending(result: { error?: Error; status: number | null; signal: string | null; stderr: string }): string {
  if (result.error !== undefined) return 'did not end within five minutes';
  if (result.signal !== null) return `was ended by ${result.signal}`;
  const said = /^(?:\w*Error.*?: )?(.*)$/m.exec(lastError(result.stderr))?.[1];
  return `failed: ${said === undefined || said === '' ? `exit status ${result.status}` : said}`;
}

/** The line of an uncaught error's message. */
function lastError(stderr: string): string {
  return stderr.split('\n').find((line) => /^\S*Error\b/.test(line)) ?? '';
}

function explanation(signal: string | null, stderr: string): string {
  if (signal === 'SIGILL') {
    return 'The processor lacks instructions that LibTorch was built with. Use another machine type, or LIBTORCH with a build for this one.';
  }
  const symbol = /version `(GLIBC(?:XX)?_[\d.]+)' not found/.exec(stderr)?.[1];
  if (symbol !== undefined) {
    return (
      `The system's C or C++ library is too old (${symbol} is missing). Use a newer system or container image, or build from source on ` +
      'this one (docs/install.md).'
    );
  }
  const library = /([\w.+-]+\.so[.\d]*): cannot open shared object file/.exec(stderr)?.[1];
  if (library !== undefined) {
    return `The library ${library} is missing: install the system's package that has it (libstdc++6, libgcc-s1 and libgomp1 on Debian).`;
  }
  return '`npx kontrast doctor` looks further. Reinstalling helps where a file is damaged; another LibTorch can be named by LIBTORCH.';
}
