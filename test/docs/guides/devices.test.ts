import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '..', '..', '..');

describe('the guide to devices', () => {
  it('has programs that run', () => {
    const folder = mkdtempSync(join(tmpdir(), 'kontrast-guide-'));
    const node = (...args: string[]): string => {
      try {
        return execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
      } catch (error) {
        const { stdout, stderr } = error as { stdout: string; stderr: string };
        return assert.fail(`${args.join(' ')}\n${stdout}${stderr}`);
      }
    };
    try {
      mkdirSync(join(folder, 'node_modules'));
      symlinkSync(root, join(folder, 'node_modules', 'kontrast'), 'dir');
      const guide = readFileSync(join(root, 'docs', 'guides', 'devices.md'), 'utf8');
      const programs = [...guide.matchAll(/```ts\n([^]*?)```/g)].map(([, program]) => program!);
      assert.equal(programs.length, 5);
      for (const [i, program] of programs.entries()) writeFileSync(join(folder, `${String(i)}.mts`), program);
      const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
      const files = programs.map((_, i) => `${String(i)}.mts`);
      node(tsc, '--strict', '--target', 'es2022', '--module', 'nodenext', ...files);
      const printed = programs.map((_, i) => node(`${String(i)}.mjs`).trim());
      assert.match(printed[0]!, /^(cpu|cuda:0)/);
      assert.match(printed[1]!, /milliseconds: \d+\.\d+\n-?\d/);
      assert.match(printed[2]!, /no room for 140737488355328 bytes$/);
      assert.match(printed[3]!, /^(\[ 8, 16 \]\s*){3}$/);
      assert.equal(printed[4], 'true highest');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }).timeout(120_000);
});
