import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';

const root = resolve(__dirname, '..', '..');

describe('examples/three-objectives', () => {
  it('trains and evaluates with each objective', () => {
    const jiti = resolve(root, 'node_modules', 'jiti', 'lib', 'jiti-cli.mjs');
    const file = resolve(root, 'examples', 'three-objectives', 'train.ts');
    const printed = execFileSync(process.execPath, [jiti, file, '2', '200'], { cwd: root, encoding: 'utf8' });
    const lines = printed.trim().split('\n');
    assert.equal(lines.length, 5, printed);
    for (const line of lines) assert.match(line, /^(raw|untrained|NT-Xent|DCL|SupCon).* \d+\.\d\d %$/);
  }).timeout(120_000);
});
