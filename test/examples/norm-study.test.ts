import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { MoCo } from '../../src/models';
import { torch } from '../../src/torch';
import { loadRecipe, resolveOptions, type Option } from '../../src/train';

const root = resolve(__dirname, '..', '..');
const folder = resolve(root, 'examples', 'norm-study');
/** Sizes for a run of seconds. */
const tiny = { images: 64, labelled: 40, testImages: 40, widths: [4, 8], embeddingSize: 8, queueSize: 64 };
const norms = ['split', 'iterative-whitening', 'norm-free'];

describe('examples/norm-study', () => {
  it('builds a set-up for each norm, whose key encoder answers to leaks', async () => {
    const { recipe } = await loadRecipe(resolve(folder, 'recipe.ts'));
    const answers: Record<string, string> = {};
    for (const norm of (recipe.options.norm as Option<string>).limits.choices!) {
      const options = resolveOptions(recipe.options, { ...tiny, norm, batchSize: 8 });
      const run = await recipe.build(options, { device: 'cpu', seed: 0, log: () => undefined });
      const moco = run.state.moco as MoCo;
      answers[norm] = moco.batchNorm;
      const { loss } = moco.step(torch.randn([8, 1, 28, 28]), torch.randn([8, 1, 28, 28]));
      loss.backward();
      assert.ok(Number.isFinite(loss.itemSync()), norm);
      moco.dispose();
    }
    assert.equal(answers.split, 'shuffle-split');
    for (const norm of ['eman', 'renorm', 'iterative-whitening', 'power', 'batch-channel']) {
      assert.equal(answers[norm], 'eman', norm);
    }
    assert.ok(Object.keys(answers).length >= 8);
  });

  it('goes on with a study that was cut off, and prints and draws it', () => {
    const out = mkdtempSync(join(tmpdir(), 'norm-study-'));
    const study = (): string => {
      const jiti = resolve(root, 'node_modules', 'jiti', 'lib', 'jiti-cli.mjs');
      const flags = Object.entries({ ...tiny, norms, batchSizes: [4, 8], seeds: 2, out }).flatMap(([name, value]) => [
        `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
        String(value),
      ]);
      return execFileSync(process.execPath, [jiti, resolve(folder, 'study.ts'), ...flags], {
        cwd: root,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, OMP_NUM_THREADS: '1' },
      });
    };
    try {
      const printed = study();
      for (const norm of norms) assert.match(printed, new RegExp(`^${norm} +\\d+\\.\\d\\d( ± \\d+\\.\\d\\d)? `, 'm'));
      assert.match(printed, /^split .* shielded +shielded /m);
      assert.match(readFileSync(join(out, 'accuracy.svg'), 'utf8'), /^<svg .*norm-free.*<\/svg>\n$/s);
      const file = join(out, 'outcomes.json');
      const whole = JSON.parse(readFileSync(file, 'utf8')) as { outcomes: object[] };
      assert.equal(whole.outcomes.length, 12);
      writeFileSync(file, JSON.stringify({ ...whole, outcomes: whole.outcomes.slice(0, 11) }));
      assert.equal(study(), printed);
    } finally {
      rmSync(out, { recursive: true });
    }
  }).timeout(120_000);
});
