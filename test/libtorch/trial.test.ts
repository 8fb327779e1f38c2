import assert from 'node:assert/strict';
import { chmodSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Addon } from '../../src/libtorch/addon';
import type { LibTorch } from '../../src/libtorch/locate';
import { ensureTried, trialVariable, type TrialOptions } from '../../src/libtorch/trial';
import { KontrastError } from '../../src/torch/errors';
import { temporaryFolder, writeFiles } from './fakes';

describe('trying a prebuilt addon', () => {
  const base = temporaryFolder();
  const folder = join(base, 'addon');
  const lib = join(base, 'libtorch', 'lib');
  const tries = join(base, 'tries');
  const env = { ...process.env, KONTRAST_CACHE: join(base, 'cache') };
  writeFiles(folder, { 'kontrast.node': 'a', 'kontrast_loader.node': 'b' });
  writeFiles(lib, { 'libtorch_cpu.so': 'c' });
  const addon: Addon = { folder, source: 'package', builtFor: '2.13', requirements: { libtorch: '2.13.0' } };
  const libtorch = { root: join(base, 'libtorch'), lib, version: '2.13.0', source: 'package' } as LibTorch;
  const counting = `require('fs').appendFileSync(${JSON.stringify(tries)}, process.env.${trialVariable} + '\\n')`;
  const counted = () => readFileSync(tries, 'utf8').split('\n').length - 1;

  const attempt = (options: TrialOptions = {}, asked: Partial<Addon> = {}) =>
    ensureTried({ ...addon, ...asked }, libtorch, { env, program: counting, ...options });
  const failure = (code: string, message: RegExp, options: TrialOptions, asked: Partial<Addon> = {}) => {
    assert.throws(
      () => attempt(options, asked),
      (error: unknown) => {
        assert.ok(error instanceof KontrastError && error.code === code, String(error));
        assert.match(error.message, message);
        return true;
      },
    );
  };
  const forget = () => rmSync(join(base, 'cache'), { recursive: true, force: true });

  it('happens once, in a process that knows what it is, and again when a file has changed', () => {
    attempt();
    attempt();
    assert.equal(readFileSync(tries, 'utf8'), '1\n');
    writeFiles(lib, { 'libtorch_cpu.so': 'longer' });
    attempt();
    attempt();
    assert.equal(counted(), 2);
    assert.equal(readdirSync(join(base, 'cache', 'tried')).length, 2);
  });

  it('does not concern what was built here, nor the process that tries', () => {
    forget();
    const before = counted();
    attempt({}, { source: 'build' });
    attempt({ env: { ...env, [trialVariable]: '1' } });
    assert.equal(counted(), before);
  });

  it('happens each time where nothing can be noted', () => {
    if (process.getuid?.() === 0) {
      // Who may write everywhere is stopped by a file in the folder's place.
      writeFiles(base, { blocked: '' });
    } else {
      writeFiles(join(base, 'blocked'), { x: '' });
      chmodSync(join(base, 'blocked'), 0o500);
    }
    const before = counted();
    const blocked = { ...env, KONTRAST_CACHE: join(base, 'blocked') };
    attempt({ env: blocked });
    attempt({ env: blocked });
    assert.equal(counted(), before + 2);
  });

  it('says how a process ended that could not compute, and leaves no note', () => {
    forget();
    const fails = (program: string, message: RegExp) => failure('ADDON_TRIAL', message, { program });
    fails(
      `throw new Error('no such thing')`,
      /a process that tried it failed: no such thing\.\n {2}addon: .*\n {2}LibTorch 2\.13\.0: /,
    );
    fails(`process.exit(3)`, /failed: exit status 3/);
    fails(
      `process.kill(process.pid, 'SIGILL'); setTimeout(() => {}, 1e6)`,
      /was ended by SIGILL.*\n[^]*The processor lacks instructions/,
    );
    fails(
      "throw new Error('/lib/libc.so.6: version `GLIBC_2.38\\' not found (required by x)')",
      /C or C\+\+ library is too old \(GLIBC_2\.38 is missing\)/,
    );
    fails(
      `throw new Error('libgomp.so.1: cannot open shared object file: No such file or directory')`,
      /The library libgomp\.so\.1 is missing: install/,
    );
    assert.ok(!readdirSync(base).includes('cache'));
  });

  it('asks first whether C library and processor are what the package needs', () => {
    const needs = (glibc: string, ...cpu: string[]) => ({ requirements: { libtorch: '2.13.0', glibc, cpu } });
    const machine = { glibc: '2.31', cpuFlags: new Set(['sse4_1', 'avx2']) };
    attempt(machine, needs('2.31', 'avx2'));
    attempt({ ...machine, glibc: null, cpuFlags: null }, needs('2.40', 'avx512f'));
    forget();
    failure(
      'ADDON_UNSUPPORTED',
      /needs the GNU C library 2\.34 or newer, and this system has 2\.31\./,
      machine,
      needs('2.34'),
    );
    failure(
      'ADDON_UNSUPPORTED',
      /needs a processor with avx512f, which this one/,
      machine,
      needs('2.9', 'avx512f', 'avx2'),
    );
  });

  it('keeps options of Node that matter, and leaves debuggers out', () => {
    forget();
    const program = `if (process.env.NODE_OPTIONS !== '--no-warnings') throw new Error(process.env.NODE_OPTIONS)`;
    attempt({ program, env: { ...env, NODE_OPTIONS: '--inspect-brk --no-warnings' } });
  });
});
