import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { locateLibTorch } from '../../src/libtorch/locate';
import type { Launch } from './case';

const BENCH = path.resolve(__dirname, '..');

/** Starts an adapter written in TypeScript, in this version of Node. */
export function typescript(file: string, ...parameters: string[]): Launch {
  return {
    command: process.execPath,
    arguments: ['-r', 'ts-node/register/transpile-only', file, ...parameters],
  };
}

/** The Python interpreter of the peers' own environment, or why there is none. */
export function peerPython(
  environment = path.join(BENCH, '.venv'),
): { readonly program: string } | { readonly unavailable: string } {
  const program = path.join(environment, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  if (existsSync(program)) return { program };
  return { unavailable: 'there is no Python peer: bench/setup-peer.sh installs it into bench/.venv' };
}

/** Starts a peer written in Python in its own environment, which `bench/setup-peer.sh` makes. */
export function python(file: string, ...parameters: string[]): Launch | { readonly unavailable: string } {
  const peer = peerPython();
  if ('unavailable' in peer) return peer;
  return {
    command: peer.program,
    // Without NumPy in its environment PyTorch warns at import; no case needs it.
    arguments: ['-W', 'ignore', file, ...parameters],
    environment: { PYTHONPATH: path.join(BENCH, 'harness'), PYTHONDONTWRITEBYTECODE: '1' },
  };
}

/**
 * Starts a peer written in C++ against the LibTorch that kontrast runs on. It is compiled when its source, the harness's
 * header, the compiler or LibTorch is another than before; `CXX` names the compiler (default: c++).
 */
export function cpp(file: string): Launch | { readonly unavailable: string } {
  let libtorch: ReturnType<typeof locateLibTorch>;
  try {
    libtorch = locateLibTorch({ needsHeaders: true });
  } catch (error) {
    return { unavailable: `there is no LibTorch to compile against: ${(error as Error).message}` };
  }
  const { lib, include } = libtorch;
  const parameters = [
    '-std=c++20',
    '-O2',
    ...['-I', path.join(BENCH, 'harness'), '-isystem', include],
    ...['-isystem', path.join(include, 'torch', 'csrc', 'api', 'include')],
    file,
    ...[`-L${lib}`, `-Wl,-rpath,${lib}`, '-ltorch_cpu', '-lc10'],
  ];
  return compile(file, [file, path.join(BENCH, 'harness', 'serve.h')], parameters);
}

/** Compiles a program unless it was compiled from the same sources in the same way; `program` is what came of it. */
export function compile(
  name: string,
  sources: readonly string[],
  parameters: readonly string[],
  folder = path.join(BENCH, '.cache'),
): Launch | { readonly unavailable: string } {
  const compiler = process.env['CXX'] ?? 'c++';
  const version = spawnSync(compiler, ['--version'], { encoding: 'utf8' });
  if (version.status !== 0) return { unavailable: `there is no C++ compiler: '${compiler} --version' failed` };
  const hash = createHash('sha256').update(JSON.stringify([version.stdout, parameters]));
  for (const source of sources) hash.update(readFileSync(source));
  const program = path.join(folder, `${path.basename(path.dirname(name))}-${hash.digest('hex').slice(0, 16)}`);
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    const temporary = `${program}.${process.pid}.tmp`;
    const { status, stderr } = spawnSync(compiler, [...parameters, '-o', temporary], { encoding: 'utf8' });
    if (status !== 0) return { unavailable: `${name} does not compile:\n${stderr.slice(-2000)}` };
    renameSync(temporary, program);
  }
  return { command: program, arguments: [] };
}
