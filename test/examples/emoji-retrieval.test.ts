import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { torch } from 'kontrast/torch';
import { PNG } from 'pngjs';
import { retrieval, summary } from '../../examples/emoji-retrieval/retrieval';
import { packageDirectory } from '../../src/data/package-directory';
import { scratch } from '../support/scratch';

const root = resolve(__dirname, '..', '..');

describe('examples/emoji-retrieval', () => {
  const file = scratch();

  it('trains with both kinds of negatives, prints what they find and draws it', function () {
    this.timeout(120_000);
    try {
      packageDirectory('emoji-datasource', [root]);
    } catch {
      console.log('      skipped, as the data is not installed: npm install emoji-datasource@16.0.0');
      this.skip();
    }
    const jiti = resolve(root, 'node_modules', 'jiti', 'lib', 'jiti-cli.mjs');
    const program = resolve(root, 'examples', 'emoji-retrieval', 'train.ts');
    const tiny = ['--epochs', '2', '--seeds', '1', '--batch', '8', '--limit', '24', '--warmup', '1', '--select', '4'];
    const out = file('run');
    const printed = execFileSync(process.execPath, [jiti, program, ...tiny, '--out', out], {
      cwd: root,
      encoding: 'utf8',
    });
    const lines = printed.trim().split('\n');
    assert.match(lines[0]!, /^24 emoji to train on, by 4 vendors; 24 others to find \(test\)$/);
    for (const name of ['raw pixels', 'untrained encoder', 'random negatives, seed 1', 'mined negatives, seed 1']) {
      const line = lines.find((text) => text.startsWith(name));
      assert.match(line ?? printed, /( +\d+\.\d){4}/);
    }
    const { summaries } = JSON.parse(readFileSync(resolve(out, 'results.json'), 'utf8')) as {
      summaries: { negatives: string; mean: { recallAt1: number; recallAt5: number } }[];
    };
    assert.deepEqual(
      summaries.map(({ negatives }) => negatives),
      ['random', 'mined'],
    );
    for (const { mean } of summaries) assert.ok(mean.recallAt5 >= mean.recallAt1 && mean.recallAt1 >= 0);
    const { width, height, data } = PNG.sync.read(readFileSync(resolve(out, 'retrieved.png')));
    // Twelve queries with five answers of either encoder, of 64 pixels and their frames.
    assert.ok(height > 12 * 64 && width > 11 * 64, `${width} × ${height}`);
    assert.ok(data.some((value) => value < 128));
  });

  it('counts ranks', () => {
    // Unit rows: the right answers score 0.6, 0.6 and 1, the wrong ones 0.8, 0.8 and 0 at most.
    const queries = torch.eye(3, { dtype: 'float64' });
    const rows = [
      [3, 4, 0],
      [4, 3, 0],
      [0, 0, 2],
    ];
    const gallery = torch.tensor(rows, { dtype: 'float64' });
    assert.deepEqual(retrieval(queries, gallery, ['a', 'a', 'b']), {
      recallAt1: 1 / 3,
      recallAt5: 1,
      meanReciprocalRank: 2 / 3,
      familyAt1: 1,
    });
    const alike = torch.ones([8, 3], { dtype: 'float64' });
    assert.deepEqual(retrieval(alike, alike, [...'aabbbbbb']), {
      recallAt1: 0,
      recallAt5: 0,
      meanReciprocalRank: 1 / 8,
      familyAt1: 1 / 4,
    });
  });

  it('sums up runs', () => {
    const of = (value: number) => ({ recallAt1: value, recallAt5: 2 * value, meanReciprocalRank: 0.5, familyAt1: 1 });
    const { mean, deviation } = summary([of(0.1), of(0.2), of(0.3)]);
    assert.ok(Math.abs(mean.recallAt1 - 0.2) < 1e-12 && Math.abs(mean.recallAt5 - 0.4) < 1e-12);
    assert.ok(Math.abs(deviation.recallAt1 - 0.1) < 1e-12 && Math.abs(deviation.recallAt5 - 0.2) < 1e-12);
    assert.equal(deviation.meanReciprocalRank, 0);
    assert.deepEqual(summary([of(0.25)]).deviation, {
      recallAt1: 0,
      recallAt5: 0,
      meanReciprocalRank: 0,
      familyAt1: 0,
    });
  });
});
