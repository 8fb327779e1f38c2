import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const ROOT = path.resolve(__dirname, '../..');

function bench(...parameters: string[]): { code: number | null; output: string; errors: string } {
  const child = spawnSync(
    process.execPath,
    ['-r', 'ts-node/register/transpile-only', path.join(ROOT, 'bench', 'run.ts'), ...parameters],
    { cwd: ROOT, encoding: 'utf8' },
  );
  return { code: child.status, output: child.stdout, errors: child.stderr };
}

describe('bench command', () => {
  it('lists the cases and options', () => {
    const { code, output } = bench('--help');
    assert.equal(code, 0);
    assert.match(
      output,
      /cases: contrast, gpu-contrast, gpu-contrast-large, gradcache, moco, negatives, norm, operators, overhead, search, startup, all/,
    );
    assert.match(output, /--rounds <n>/);
  });

  it('refuses what it does not know, before anything runs', () => {
    const wrong: [string[], RegExp][] = [
      [[], /name a case/],
      [
        ['nothing'],
        /there is no case nothing; there are contrast, gpu-contrast, gpu-contrast-large, gradcache, moco, negatives, norm, operators, overhead, search, startup/,
      ],
      [['startup', '--rounds', '0'], /--rounds takes a whole number from 1, not 0/],
      [['startup', 'moco', '--out', 'file'], /--out takes one case at a time/],
      [['--fast'], /Unknown option '--fast'/],
    ];
    for (const [parameters, message] of wrong) {
      const { code, errors } = bench(...parameters);
      assert.equal(code, 2, errors);
      assert.match(errors, message);
    }
  });
});
