import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { MixedNegatives } from '../../src/negatives/adapters';
import type { MoCo } from '../../src/models';
import { loadRecipe, resolveOptions } from '../../src/train';

const root = resolve(__dirname, '..', '..');
const folder = resolve(root, 'examples', 'moco-hard-negatives');
/** Sizes for a run of seconds. */
const tiny = {
  images: 60,
  labelled: 40,
  testImages: 20,
  epochs: 2,
  batchSize: 20,
  widths: [4, 8],
  embeddingSize: 8,
  queueSize: 40,
  hardest: 8,
  pairs: 4,
  withQuery: 2,
  precision: 'float32',
};

describe('examples/moco-hard-negatives', () => {
  it('builds an objective for each kind of negatives, alike but for that', async () => {
    const { recipe } = await loadRecipe(resolve(folder, 'recipe.ts'));
    const warmups: unknown[] = [];
    for (const negatives of ['queue', 'mochi', 'ft', 'both']) {
      const options = resolveOptions(recipe.options, { ...tiny, negatives, keepHardest: true });
      const run = await recipe.build(options, { device: 'cpu', seed: 0, log: () => undefined });
      const moco = run.state.moco as MoCo;
      assert.ok(moco.objective instanceof MixedNegatives);
      const { mochi, featureTransformation, keep, temperature } = moco.objective;
      assert.equal(mochi !== undefined, ['mochi', 'both'].includes(negatives));
      assert.equal(featureTransformation !== undefined, ['ft', 'both'].includes(negatives));
      assert.equal(keep, mochi === undefined ? 'all' : 'hardest');
      assert.equal(temperature, options.temperature);
      if (mochi !== undefined) warmups.push(mochi.warmup);
      moco.dispose();
    }
    assert.deepEqual(warmups, [2, 2]);
  });

  it('compares the kinds of negatives over seeds', () => {
    const jiti = resolve(root, 'node_modules', 'jiti', 'lib', 'jiti-cli.mjs');
    const flags = Object.entries({ ...tiny, seeds: 2 }).flatMap(([name, value]) => [
      `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      String(value),
    ]);
    const printed = execFileSync(process.execPath, [jiti, resolve(folder, 'compare.ts'), ...flags], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    const rows = (name: string): string[][] =>
      printed
        .split('\n')
        .filter((line) => line.startsWith(`${name}  `))
        .map((line) =>
          line
            .slice(name.length)
            .trim()
            .split(/\s{2,}/),
        );
    const accuracy = /^\d+\.\d\d ± \d+\.\d\d$/;
    assert.match(rows('raw pixels')[0]![0]!, /^\d+\.\d\d$/, printed);
    assert.match(rows('untrained encoder')[0]!.join(), /^\d+\.\d\d ± .*,\d+\.\d\d ± /, printed);
    for (const name of ['queue', 'MoCHi', 'FT', 'MoCHi and FT']) {
      const [accuracies, seen] = rows(name) as [string[], string[]];
      for (const cell of accuracies.slice(0, 2)) assert.match(cell, accuracy, printed);
      assert.equal(accuracies.length, name === 'queue' ? 2 : 3, printed);
      assert.equal(seen.length, 6, printed);
      // Without MoCHi there are no mixes to tell of.
      assert.equal(seen.filter((cell) => cell === '–').length, name.includes('MoCHi') ? 0 : 2, printed);
    }
    assert.match(printed, /minutes in all; threads: 1/);
  }).timeout(120_000);
});
