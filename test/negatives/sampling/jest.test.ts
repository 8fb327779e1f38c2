import assert from 'node:assert/strict';
import { JestSampler, jointSelection } from '../../../src/negatives/sampling/jest';
import { Generator, memory, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { rowsOf } from '../clustering/plain';
import { ascending, epochOf, keepsTheContract, upTo } from './contract';

const random = (size: number, seed: number): Tensor =>
  torch.randn([size, size], { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });
const select = (a: Tensor | null, b: Tensor | null, options: object, seed = 1) =>
  numbers(jointSelection(a, b, { count: 4, generator: new Generator({ seed }), ...options }));

/** The scores of one more row k beside those selected, by the formulas, one pair at a time. */
function conditional(loss: string, learner: number[][], reference: number[][], selected: number[], k: number): number {
  const pair = (s: number[][], i: number, j: number) => Math.log1p(Math.exp((i === j ? -1 : 1) * s[i]![j]!));
  const logSum = (values: number[]) => Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
  const one = (s: number[][]) => {
    if (loss === 'sigmoid') {
      return pair(s, k, k) + selected.reduce((sum, j) => sum + pair(s, k, j) + pair(s, j, k), 0);
    }
    if (selected.length === 0) return -s[k]![k]!;
    return (logSum(selected.map((j) => s[k]![j]!)) + logSum(selected.map((j) => s[j]![k]!))) / 2 - s[k]![k]!;
  };
  return one(learner) - one(reference);
}

describe('jointSelection', () => {
  it('is greedy by the formula when nothing is left to chance', () => {
    scope(() => {
      for (const loss of ['sigmoid', 'softmax'] as const) {
        for (const size of [1, 2, 3, 11]) {
          const [learner, reference] = [random(size, 3), random(size, 4)];
          const [l, r] = [rowsOf(learner), rowsOf(reference)];
          const count = Math.min(size, 5);
          const expected: number[] = [];
          for (let step = 0; step < count; step++) {
            const open = upTo(size).filter((k) => !expected.includes(k));
            const score = (k: number) => conditional(loss, l, r, expected, k);
            expected.push(open.reduce((best, k) => (score(k) > score(best) ? k : best)));
          }
          assert.deepEqual(select(learner, reference, { loss, count, chunks: count, gain: 1e9 }), expected);
        }
      }
    });
  });

  it('draws in proportion to the exponentials of the scores', () => {
    scope(() => {
      const [learner, reference] = [random(4, 5), random(4, 6)];
      const [l, r] = [rowsOf(learner), rowsOf(reference)];
      const scores = upTo(4).map((k) => Math.exp(conditional('sigmoid', l, r, [], k)));
      const total = scores.reduce((a, b) => a + b);
      const counts = [0, 0, 0, 0];
      for (let seed = 0; seed < 1500; seed++) counts[select(learner, reference, { count: 1 }, seed)[0]!]!++;
      scores.forEach((score, k) => assert.ok(Math.abs(counts[k]! / 1500 - score / total) < 0.04, String(counts)));
    });
  });

  it('selects hard rows for the learner and easy ones for the reference', () => {
    scope(() => {
      // Off the diagonal all pairs are easy. Rows 0-3 are hard for the learner, rows 2-5 for the reference.
      const logits = (hard: number[]) =>
        torch.full([8, 8], -20, { dtype: 'float64', device }).add(
          torch.diag(
            torch.tensor(
              upTo(8).map((k) => (hard.includes(k) ? 10 : 30)),
              { dtype: 'float64', device },
            ),
          ),
        );
      const [learner, reference] = [logits([0, 1, 2, 3]), logits([2, 3, 4, 5])];
      const options = { count: 2, gain: 1e3 };
      assert.deepEqual(ascending(select(learner, reference, options)), [0, 1]);
      assert.deepEqual(ascending(select(learner, null, { ...options, count: 4, criterion: 'hard' })), [0, 1, 2, 3]);
      assert.deepEqual(ascending(select(null, reference, { ...options, count: 4, criterion: 'easy' })), [0, 1, 6, 7]);
    });
  });

  it('selects each row at most once, in chunks of nearly equal size, without gradients or leaks', () => {
    const [learner, reference] = [random(20, 1).requiresGrad_(), random(20, 2)];
    const before = memory().liveTensors;
    for (const chunks of [1, 3, 7]) {
      const generator = new Generator({ seed: chunks });
      const selected = jointSelection(learner, reference, { count: 7, chunks, generator });
      assert.equal(new Set(numbers(selected)).size, 7);
      assert.ok(!selected.requiresGrad && selected.dtype === 'int64');
      selected.dispose();
    }
    assert.equal(memory().liveTensors, before);
    learner.dispose();
    reference.dispose();
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const square = random(5, 1);
      const refuses = (a: Tensor | null, b: Tensor | null, options: object, message: RegExp) =>
        assert.throws(() => select(a, b, options), message);
      refuses(square, null, {}, /'learnable' needs the logits of learner and reference/);
      refuses(null, square, { criterion: 'hard' }, /'hard' needs the logits of the learner/);
      refuses(square, random(6, 1), {}, /reference must be floating-point \[B, B\].*\[6, 6\]/);
      refuses(square, square.narrow(0, 0, 3), {}, /found float64 \[3, 5\]/);
      refuses(square, square, { count: 6 }, /at most the super-batch of 5/);
      refuses(square, square, { chunks: 5 }, /chunks at most count/);
      refuses(square, square, { loss: 'x' }, /loss must be/);
    });
  });
});

describe('JestSampler', () => {
  const make = (shared: object = {}) => new JestSampler({ size: 100, batchSize: 6, filterRatio: 0.5, ...shared });
  keepsTheContract(make);

  it('gives super-batches, and the same selection again for the same batch', () => {
    scope(() => {
      const sampler = make();
      assert.deepEqual(
        epochOf(sampler, 0).map((batch) => batch.length),
        Array(8).fill(12),
      );
      const [learner, reference] = [random(12, 1), random(12, 2)];
      const batch = sampler.next();
      const kept = numbers(sampler.select(batch, learner, reference));
      assert.equal(new Set(kept).size, 6);
      const again = make();
      again.startEpoch(1);
      assert.deepEqual(numbers(again.select(again.next(), learner, reference)), kept);
      assert.notDeepEqual(numbers(sampler.select(sampler.next(), learner, reference)), kept);
      const shard = { rank: 1, worldSize: 2 };
      const part = make({ shard });
      const mine = part.next();
      const [small, other] = [random(6, 1), random(6, 2)];
      assert.equal(part.select(mine, small, other).shape[0], 3);
      // Each rank draws for itself.
      const first = make({ shard: { rank: 0, worldSize: 2 } });
      const picks = (of: JestSampler) => upTo(8).flatMap((step) => numbers(of.select({ ...mine, step }, small, other)));
      assert.notDeepEqual(picks(first), picks(part));
    });
  });

  it('refuses what does not fit', () => {
    assert.throws(() => make({ filterRatio: 1 }), /filterRatio/);
    assert.throws(() => make({ size: 11 }), /super-batch of 12 needs as many rows, found 11/);
    assert.throws(() => make({ shard: { rank: 0, worldSize: 4 } }), /multiples of the 4 processes/);
    scope(() => {
      const sampler = make();
      const batch = sampler.next();
      assert.throws(
        () => sampler.select(batch, random(5, 1), random(5, 2)),
        /of the 12 rows of the batch, found \[5, 5\]/,
      );
    });
  });
});
