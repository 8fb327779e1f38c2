// `npm test`: the checks of the code, then the tests. The last line is `N passed, N failed`, and nothing else is on it. N passed are
// the tests that passed; failed are the tests that failed and the checks that did.
//
//   node scripts/test.mjs [mocha arguments]   the arguments choose tests, for example test/nn/linear.test.ts
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const bin = (...parts) => join(root, 'node_modules', ...parts);

/** Runs Node on a script; with `keep` the output is returned, not shown. */
function runNode(args, { keep = false, env = process.env } = {}) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      env,
      stdio: ['ignore', keep ? 'pipe' : 'inherit', keep ? 'pipe' : 'inherit'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('close', (status, signal) => resolve({ ok: status === 0, status: signal ?? status, output }));
  });
}

const checks = {
  lint: [bin('eslint', 'bin', 'eslint.js'), '.'],
  format: [bin('prettier', 'bin', 'prettier.cjs'), '--check', '--log-level', 'warn', '.'],
  types: [bin('typescript', 'bin', 'tsc'), '-p', 'tsconfig.check.json'],
};

async function runChecks() {
  const failed = [];
  // Side by side: each is one thread, and most of a minute when run in turn.
  await Promise.all(
    Object.entries(checks).map(async ([name, args]) => {
      const start = performance.now();
      const { ok, output } = await runNode(args, { keep: true });
      if (!ok) failed.push(name);
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      process.stdout.write(`${ok ? '' : output}${name.padEnd(7)} ${ok ? 'passed' : 'FAILED'} (${seconds} s)\n`);
    }),
  );
  return failed;
}

async function runTests(args) {
  const folder = mkdtempSync(join(tmpdir(), 'kontrast-test-'));
  const counts = join(folder, 'counts.json');
  try {
    const reporter = [
      '--reporter',
      join(root, 'scripts', 'test-reporter.cjs'),
      '--reporter-option',
      `counts=${counts}`,
    ];
    const { ok, status } = await runNode([
      bin('mocha', 'bin', 'mocha.js'),
      ...reporter,
      ...(args.length > 0 ? args : ['test/**/*.test.ts']),
    ]);
    try {
      return { ok, ...JSON.parse(readFileSync(counts, 'utf8')) };
    } catch {
      console.error(`the tests did not run to their end (${status})`);
      return { ok: false, passed: 0, failed: 1 };
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const failures = [];
let passed = 0;
let failed = 0;
if (!(await runNode([join(root, 'scripts', 'setup.mjs')])).ok) failures.push('setup');
else {
  failures.push(...(await runChecks()));
  const chosen = process.argv.slice(2);
  const tests = await runTests(chosen.length > 0 ? chosen : ['test/**/*.test.ts']);
  ({ passed, failed } = tests);
  if (!tests.ok && failed === 0) failures.push('tests');
}
failed += failures.length;
if (failures.length > 0) console.error(`failed: ${failures.join(', ')}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
