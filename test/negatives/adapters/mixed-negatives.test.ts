import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { DataLoader, ImageSet, RandomResizedCrop, toFloat, TwoViews, type Batch } from '../../../src/data';
import { MoCo, ProjectionHead, ResidualEncoder } from '../../../src/models';
import { MixedNegatives, type MixedNegativesOptions } from '../../../src/negatives/adapters';
import { FeatureTransformation, MoCHi } from '../../../src/negatives/mixing';
import { AdamW } from '../../../src/optim';
import { Generator, getThreads, grad, manualSeed, scope, setThreads, torch, type Tensor } from '../../../src/torch';
import { readMetrics, Trainer } from '../../../src/train';
import { assertClose, numbers } from '../../support/close';
import { assertRefuses, assertValue, dot, learning, mean, random, rowsOf, unit } from '../../contrast/objectives/plain';
import { checkpointContent } from '../../train/fixtures/build';

const units = (shape: number[]): Tensor => torch.tensor(rowsOf(random(shape)).map(unit), { dtype: 'float64' });
const settings = { hardest: 4, pairs: 3, withQuery: 2 };
const temperature = 0.3;

interface Scene {
  q: Tensor;
  k: Tensor;
  queue: Tensor;
}

const scene = (n: number, size: number): Scene => ({ q: units([n, 4]), k: units([n, 4]), queue: units([size, 4]) });

/** InfoNCE and the shares of the nearest, over rows of negatives of each query. */
function byLoop(queries: Tensor, keys: Tensor, negatives: number[][][]): { loss: number; accuracy: number } {
  const own = rowsOf(queries).map((row, i) => dot(row, rowsOf(keys)[i]!));
  const scores = rowsOf(queries).map((row, i) => negatives[i]!.map((other) => dot(row, other)));
  const loss = own.map((s, i) => {
    const sum = [s, ...scores[i]!].reduce((all, x) => all + Math.exp(x / temperature), 0);
    return Math.log(sum) - s / temperature;
  });
  return { loss: mean(loss), accuracy: mean(own.map((s, i) => Number(s > Math.max(...scores[i]!)))) };
}

/** Each query's rows of the queue, all or its hardest. */
function queueRows(queries: Tensor, queue: Tensor, count = Infinity): number[][][] {
  const all = rowsOf(queue);
  return rowsOf(queries).map((row) => [...all].sort((a, b) => dot(row, b) - dot(row, a)).slice(0, count));
}

describe('MixedNegatives', () => {
  for (const [n, size] of [
    [1, 4],
    [2, 5],
    [3, 17],
  ] as const) {
    it(`equals a loop over the queue and the mixes: ${n} queries, a queue of ${size}`, () => {
      scope(() => {
        for (const transformed of [false, true]) {
          for (const mixing of [false, true]) {
            for (const keep of mixing ? (['all', 'hardest'] as const) : (['all'] as const)) {
              const { q, k, queue } = scene(n, size);
              const transformation = () =>
                transformed ? new FeatureTransformation({ seed: 3, normalize: true }) : undefined;
              const moved = transformation()?.apply(q, k, queue) ?? { queries: q, keys: k, negatives: queue };
              const mixes = new MoCHi({ ...settings, seed: 8 }).negatives(moved.queries, moved.negatives)!;
              const kept = queueRows(moved.queries, moved.negatives, keep === 'hardest' ? settings.hardest : Infinity);
              const withMixes = kept.map((rows, i) => (mixing ? [...rows, ...rowsOf(mixes.select(0, i))] : rows));
              const expected = byLoop(moved.queries, moved.keys, withMixes);
              const found = new MixedNegatives({
                featureTransformation: transformation(),
                mochi: mixing ? new MoCHi({ ...settings, seed: 8 }) : undefined,
                keep,
                temperature,
              }).contrast(q, k, queue);
              const what = JSON.stringify({ transformed, mixing, keep });
              assertValue(found.loss, expected.loss, what);
              assertValue(found.accuracy, byLoop(moved.queries, moved.keys, kept).accuracy, what, 1e-6);
              const nearest = kept.map((rows, i) => dot(rows[0]!, rowsOf(moved.queries)[i]!));
              assertValue(found.nearestSimilarity, mean(nearest), what);
              if (mixing) assertValue(found.accuracyWithMixes!, expected.accuracy, what, 1e-6);
              else assert.equal(found.accuracyWithMixes, undefined);
            }
          }
        }
      });
    });
  }

  it('compares what was transformed as it is, of any length, and hands its gradient to the queries', () => {
    scope(() => {
      const { k, queue } = scene(3, 9);
      const q = learning([3, 4]);
      const { queries, keys, negatives } = new FeatureTransformation({ seed: 3 }).apply(q, k, queue);
      const options = { temperature, normalize: false };
      const expected = new MoCHi({ ...settings, seed: 8 }).loss(queries, keys, negatives, options);
      const objective = new MixedNegatives({
        featureTransformation: new FeatureTransformation({ seed: 3 }),
        mochi: new MoCHi({ ...settings, seed: 8 }),
        temperature,
      });
      const { loss, ...more } = objective.contrast(q, k, queue);
      assertClose(loss, expected, { atol: 1e-12 });
      assertClose(grad(loss, [q])[0]!, grad(expected, [q])[0]!, { atol: 1e-12 });
      for (const tensor of Object.values(more)) assert.ok(!(tensor as Tensor).requiresGrad);
      const plain = new MixedNegatives({ featureTransformation: new FeatureTransformation({ seed: 3 }), temperature });
      const rows = queueRows(queries.detach(), negatives);
      assertValue(plain.contrast(q, k, queue).loss, byLoop(queries.detach(), keys.detach(), rows).loss);
    });
  });

  it('tells keys that are nearer than the positive from mixes that are', () => {
    scope(() => {
      const rows = (x: number[][]): Tensor => torch.tensor(x, { dtype: 'float64' });
      const [q, k, queue] = [rows([[1, 0]]), rows([[0.3, Math.sqrt(0.91)]]), rows([[0, 1]])];
      // Of fifty mixes with the query some come nearer than 0.3.
      const objective = new MixedNegatives({ mochi: new MoCHi({ pairs: 0, withQuery: 50 }) });
      const { accuracy, accuracyWithMixes } = objective.contrast(q, k, queue);
      assert.deepEqual([accuracy, accuracyWithMixes!].map(numbers), [[1], [0]]);
    });
  });

  it('mixes nothing during warm-up, and says so in numbers', () => {
    scope(() => {
      const { q, k, queue } = scene(3, 9);
      const plain = new MixedNegatives({ temperature }).contrast(q, k, queue);
      const objective = new MixedNegatives({ mochi: new MoCHi({ ...settings, warmup: 2 }), temperature });
      for (let call = 0; call < 2; call++) {
        const { loss, accuracy, accuracyWithMixes } = objective.contrast(q, k, queue);
        assertClose(loss, plain.loss, { atol: 1e-12 });
        assert.deepEqual(numbers(accuracyWithMixes!), numbers(accuracy));
      }
      assert.ok(objective.contrast(q, k, queue).loss.itemSync() > plain.loss.itemSync());
    });
  });

  it('goes on exactly from its state', () => {
    scope(() => {
      const { q, k, queue } = scene(3, 9);
      const make = (seed: number) =>
        new MixedNegatives({
          featureTransformation: new FeatureTransformation({ seed }),
          mochi: new MoCHi({ ...settings, warmup: 2, seed: seed + 1 }),
        });
      const next = (objective: MixedNegatives) => Number(objective.contrast(q, k, queue).loss.itemSync());
      const whole = make(1);
      next(whole);
      const other = make(5);
      other.loadStateDict(whole.stateDict());
      const rest = [next(whole), next(whole), next(whole)];
      assert.deepEqual([next(other), next(other), next(other)], rest);
      assert.equal(new Set(rest).size, 3);
    });
  });

  it('refuses the state of another make, before anything changes', () => {
    const featureTransformation = new FeatureTransformation({ seed: 1 });
    const mochi = new MoCHi({ ...settings, seed: 2 });
    const both = new MixedNegatives({ featureTransformation, mochi });
    const before = [...both.stateDict().tensors.values()].map(numbers);
    for (const [options, message] of [
      [{}, /the state dict is of nothing, not of featureTransformation and mochi/],
      [{ mochi }, /the state dict is of mochi, not of featureTransformation and mochi/],
    ] as const) {
      assertRefuses(() => both.loadStateDict(new MixedNegatives(options).stateDict()), message);
    }
    assertRefuses(() => new MixedNegatives().loadStateDict(both.stateDict()), /not of nothing/);
    const other = new MixedNegatives({
      featureTransformation: new FeatureTransformation({ seed: 9 }),
      mochi: new MoCHi(settings),
    });
    const { tensors, values } = other.stateDict();
    tensors.delete('mochi.generator');
    assertRefuses(() => both.loadStateDict({ tensors, values }), /MoCHi: the state dict lacks 'generator'/);
    assert.deepEqual([...both.stateDict().tensors.values()].map(numbers), before);
  });

  it('refuses options that make no sense', () => {
    const refused: [MixedNegativesOptions, RegExp][] = [
      [{ temperature: 0 }, /MixedNegatives: temperature must be a number above 0/],
      [{ keep: 'hardest' }, /keep 'hardest' needs mochi/],
      [{ keep: 'some' as 'all' }, /keep must be 'all' or 'hardest', found 'some'/],
    ];
    for (const [options, message] of refused) assertRefuses(() => new MixedNegatives(options), message);
  });

  describe('in MoCo', () => {
    const threads = getThreads();
    before(() => setThreads(1));
    after(() => setThreads(threads));

    let folder: string;
    beforeEach(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-mixed-'))));
    afterEach(() => fs.rmSync(folder, { recursive: true }));

    const encoders = {
      encoder: () => new ResidualEncoder({ inChannels: 1, widths: [3, 4] }),
      head: (inputSize: number) => new ProjectionHead({ inputSize, outputSize: 6 }),
      queueSize: 20,
      batchNorm: 'none' as const,
    };

    it('is the default loss without mixing', () => {
      scope(() => {
        const plain = new MoCo({ ...encoders, temperature });
        const told = new MoCo({ ...encoders, objective: new MixedNegatives({ temperature }) });
        const objective = { tensors: new Map<string, Tensor>(), values: {} };
        const { tensors, values } = plain.stateDict();
        told.loadStateDict({ tensors, values: { ...(values as object), objective: objective.values } });
        const [a, b] = [random([5, 1, 8, 8], 'float32'), random([5, 1, 8, 8], 'float32')];
        const [expected, found] = [plain.step(a, b), told.step(a, b)];
        for (const name of Object.keys(expected)) assertClose(found[name]!, expected[name]!, { atol: 1e-5 }, name);
      });
    });

    it('puts the keys in the queue as they were before the transformation', () => {
      scope(() => {
        const featureTransformation = new FeatureTransformation();
        const moco = new MoCo({ ...encoders, objective: new MixedNegatives({ featureTransformation }) });
        moco.step(random([5, 1, 8, 8], 'float32'), random([5, 1, 8, 8], 'float32'));
        const lengths = moco.queue.entries().linalgVectorNorm(2, [1]);
        assertClose(lengths, torch.ones([20]), { atol: 1e-5 });
      });
    });

    it('is trained, saved and resumed in the middle of an epoch and of the warm-up, bit for bit', async () => {
      const images = (count: number) =>
        new ImageSet({
          images: torch.randint(0, 256, [count, 1, 8, 8], { dtype: 'uint8', generator: new Generator({ seed: 1 }) }),
          labels: torch.arange(count, { dtype: 'int64' }).remainder(2),
          classNames: ['a', 'b'],
        });
      async function train(name: string, stopAt = Infinity): Promise<{ checkpoint: string; metrics: string }> {
        fs.mkdirSync(path.join(folder, name), { recursive: true });
        const [checkpoint, metrics] = ['checkpoint.safetensors', 'metrics.jsonl'].map((file) =>
          path.join(folder, name, file),
        ) as [string, string];
        manualSeed(4);
        const moco = new MoCo({
          ...encoders,
          objective: new MixedNegatives({
            featureTransformation: new FeatureTransformation({ seed: 1 }),
            mochi: new MoCHi({ ...settings, warmup: 9, seed: 2 }),
            keep: 'hardest',
          }),
          symmetric: true,
        });
        const stop = new AbortController();
        const random = new Generator({ seed: 3 });
        const views = new TwoViews({ augmentation: new RandomResizedCrop({ flipProbability: 0.5 }) });
        const trainer = new Trainer(
          {
            data: new DataLoader({ set: images(50), batchSize: 8, dropLast: true }),
            views: (batch: Batch) => views.pair(toFloat(batch.images), random),
            method: moco,
            optimizer: new AdamW(moco.parameters(), { lr: 1e-2 }),
            state: { moco, random },
            steps: 10,
            metricsEvery: 1,
          },
          {
            checkpointPath: checkpoint,
            metricsPath: metrics,
            signal: stop.signal,
            progress: { start() {}, stop() {}, update: ({ step }) => step >= stopAt && stop.abort() },
          },
        );
        if (fs.existsSync(checkpoint)) trainer.resume();
        await trainer.run();
        moco.dispose();
        return { checkpoint, metrics };
      }
      const whole = await train('whole');
      // Two calls a step: mixing starts in the fifth.
      for (const stopAt of [2, 7]) await train('parts', stopAt);
      const parts = await train('parts');
      assert.deepEqual(checkpointContent(parts.checkpoint), checkpointContent(whole.checkpoint));
      const measured = (file: string): unknown[] =>
        readMetrics(file).map(({ step, loss, accuracy, nearestSimilarity, accuracyWithMixes }) => ({
          ...{ step, loss, accuracy, nearestSimilarity, accuracyWithMixes },
        }));
      assert.deepEqual(measured(parts.metrics), measured(whole.metrics));
      assert.equal(measured(whole.metrics).length, 10);
      for (const entry of measured(whole.metrics)) {
        assert.ok(Object.values(entry as object).every(Number.isFinite), JSON.stringify(entry));
      }
      const { parts: saved } = checkpointContent(whole.checkpoint);
      assert.deepEqual((saved as { moco: { objective: unknown } }).moco.objective, {
        featureTransformation: {},
        mochi: { calls: 20 },
      });
    });
  });
});
