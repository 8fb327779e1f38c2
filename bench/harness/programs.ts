import { existsSync } from 'node:fs';
import path from 'node:path';
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
