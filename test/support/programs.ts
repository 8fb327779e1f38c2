import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '..', '..');

/** Checks and runs the TypeScript programs of a page as a user would who has installed the package; gives what each prints. */
export function runProgramsOf(page: string): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'kontrast-page-'));
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
    const text = readFileSync(join(root, page), 'utf8');
    const programs = [...text.matchAll(/```ts\n([^]*?)```/g)].map(([, program]) => program!);
    const files = programs.map((program, i) => {
      writeFileSync(join(folder, `${String(i)}.mts`), program);
      return `${String(i)}.mts`;
    });
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    node(tsc, '--strict', '--target', 'es2022', '--module', 'nodenext', ...files);
    return files.map((file) => node(file.replace('.mts', '.mjs')).trim());
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
