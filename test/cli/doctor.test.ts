import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Finding } from '../../src/cli/doctor';
import { writeTorch } from '../libtorch/fakes';

describe('kontrast doctor', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kontrast-doctor-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** As a process of its own, with other variables in its environment. */
  const doctor = (variables: NodeJS.ProcessEnv = {}, ...flags: string[]) => {
    const command = ['-r', 'ts-node/register/transpile-only', join(__dirname, 'kontrast.ts'), 'doctor', ...flags];
    const cwd = resolve(__dirname, '..', '..');
    return spawnSync(process.execPath, command, { cwd, encoding: 'utf8', env: { ...process.env, ...variables } });
  };

  it('finds everything well where the tests run, and shows that training learns', () => {
    const { status, stdout, stderr } = doctor();
    assert.equal(status, 0, stdout + stderr);
    for (const what of ['versions', 'system', 'addon', 'LibTorch', 'loading', 'libraries', 'threads', 'memory']) {
      assert.match(stdout, new RegExp(`^(ok|WARN) +${what} `, 'm'));
    }
    assert.match(stdout, /^ok +training on cpu +loss (\d\.\d+) to 0\.\d+ in 20 steps, [\d.]+ ms a step$/m);
    assert.match(stdout, /libtorch_cpu\.(so|dylib)/);
    assert.match(stdout, /\nkontrast works here(, with \d warnings?)?\n$/);
  }).timeout(60_000);

  it('prints what it found as JSON, with warnings for what only costs', () => {
    const notAFolder = join(folder, 'file');
    writeFileSync(notAFolder, '');
    const { status, stdout } = doctor({ KONTRAST_CACHE: notAFolder, LIBTORCH: process.env.LIBTORCH }, '--json');
    assert.equal(status, 0);
    const findings = JSON.parse(stdout) as Finding[];
    const cache = findings.find(({ what }) => what === 'cache')!;
    assert.equal(cache.status, 'warning');
    assert.match(cache.found, /cannot be written .* every start tries the addon anew/);
    assert.match(cache.fix!, /KONTRAST_CACHE=/);
    const training = findings.find(({ what }) => what === 'training on cpu')!;
    assert.ok(training.numbers!.lastLoss! < training.numbers!.firstLoss!);
    assert.ok(findings.find(({ what }) => what === 'speed of cpu')!.numbers!.gigaflops! > 0);
  }).timeout(60_000);

  it('goes on to the end of what can be told where LibTorch is missing', () => {
    const { status, stdout } = doctor({ LIBTORCH: join(folder, 'nowhere') });
    assert.equal(status, 1);
    assert.match(
      stdout,
      /^FAIL +LibTorch +LibTorch was not found\.\n +Tried, in this order:\n +1\. LIBTORCH \(.*nowhere\): no such folder/m,
    );
    assert.match(stdout, /^ok +addon /m);
    assert.match(stdout, /\nkontrast does not work here: 1 of \d checks failed\n$/);
  }).timeout(60_000);

  it('survives a LibTorch that cannot be loaded', () => {
    const { status, stdout } = doctor({ LIBTORCH: writeTorch(join(folder, 'broken'), '2.13.0') });
    assert.equal(status, 1);
    assert.match(stdout, /^FAIL +loading +a process that loads LibTorch ended with exit status 1\n/m);
    assert.match(stdout, /fix: reinstall kontrast/);
  }).timeout(60_000);
});
