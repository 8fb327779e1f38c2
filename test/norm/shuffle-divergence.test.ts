import assert from 'node:assert/strict';
import { shuffleDivergence } from '../../src/norm/shuffle-divergence';
import { RandomSource } from '../../src/negatives/sampling/random-source';
import { ShuffleSampler } from '../../src/negatives/sampling/shuffle';
import { torch, type Tensor } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';

const tensor = (rows: number[][]): Tensor => torch.tensor(rows, { dtype: 'float64', device });
const pairsOf = (count: number): number[][] => Array.from({ length: count / 2 }, (_, i) => [2 * i, 2 * i + 1]);

/** Logistic risk over given rows along w. */
function risk(rows: number[][], signs: number[], w: number[]): number {
  const products = rows.map((row, i) => signs[i]! * row.reduce((sum, value, d) => sum + value * w[d]!, 0));
  return products.reduce((sum, product) => sum + Math.log1p(Math.exp(-product)), 0) / rows.length;
}

const normalized = (rows: number[][]): number[][] => {
  const flat = numbers(torch.batchNorm(tensor(rows), null, null, null, null, true, 0, 1e-5, true));
  const width = rows[0]!.length;
  return rows.map((_, i) => flat.slice(i * width, (i + 1) * width));
};

/** Gradient descent on the risk of the batches. */
function train(rows: number[][], signs: number[], batches: number[][], steps: number): number[] {
  const seen = batches.flatMap((batch) => normalized(batch.map((row) => rows[row]!)));
  const sides = batches.flatMap((batch) => batch.map((row) => signs[row]!));
  const w = rows[0]!.map(() => 0);
  for (let step = 0; step < steps; step++) {
    const gradient = w.map(() => 0);
    seen.forEach((row, i) => {
      const slope = -sides[i]! / (1 + Math.exp(sides[i]! * row.reduce((sum, value, d) => sum + value * w[d]!, 0)));
      row.forEach((value, d) => (gradient[d]! += (slope * value) / seen.length));
    });
    gradient.forEach((value, d) => (w[d]! -= value));
  }
  return w;
}

// Within each pair the first row is of class 0 and lies above the other; across pairs the order is turned round.
const turned = [[1, 3], [0, 2.9], [5, 1], [4, 1.2], [9, -1], [8, -0.9]]; // prettier-ignore
const labels = [0, 1, 0, 1, 0, 1];
const signs = labels.map((label) => (label === 0 ? 1 : -1));

describe('shuffleDivergence', () => {
  it('foretells that training on fixed batches lets the risk of the whole set grow', () => {
    const rows = turned.map(([value]) => [value!]);
    const found = shuffleDivergence({ features: tensor(rows), labels, batches: pairsOf(6) });
    assert.equal(found.verdict, 'diverges');
    assert.ok(Math.abs(found.direction[0]! - 1) < 1e-9);
    assert.ok(Math.abs(found.margin - 1) < 1e-4);
    const whole = normalized(rows);
    assert.equal(found.misclassified, whole.filter((row, i) => row[0]! * signs[i]! < 0).length / 6);
    const risks = [100, 1_000, 10_000].map((steps) => risk(whole, signs, train(rows, signs, pairsOf(6), steps)));
    assert.ok(risks[0]! < risks[1]! && risks[1]! < risks[2]!, risks.join());
    const seen = pairsOf(6).map((pair) =>
      risk(normalized(pair.map((row) => rows[row]!)), [1, -1], train(rows, signs, pairsOf(6), 10_000)),
    );
    assert.ok(seen.every((value) => value < 1e-3));
  });

  it('says that the risk stays bounded where no direction separates', () => {
    const rows = turned.map(([value]) => [value!]);
    const source = new RandomSource(1);
    const batches: number[][] = [];
    for (let epoch = 0; epoch < 6; epoch++) {
      const order = source.permutation(6);
      for (let start = 0; start < 6; start += 2) batches.push(Array.from(order.slice(start, start + 2)));
    }
    const found = shuffleDivergence({ features: tensor(rows), labels, batches });
    assert.equal(found.verdict, 'bounded');
    assert.deepEqual([found.margin, ...found.direction], [0, 0]);
  });

  it('agrees where the whole set is separated the same way', () => {
    const rows = Array.from({ length: 8 }, (_, i) => [i % 2 === 0 ? 3 + 0.1 * i : -3 - 0.1 * i, (i * 37) % 5]);
    const two = rows.map((_, i) => i % 2);
    const found = shuffleDivergence({ features: tensor(rows), labels: two, batches: [[0, 1, 2, 3], [4, 5, 6, 7]] }); // prettier-ignore
    assert.equal(found.verdict, 'agrees');
    assert.equal(found.misclassified, 0);
  });

  it('finds the direction of largest margin in two dimensions, beside a search over angles', () => {
    const found = shuffleDivergence({ features: tensor(turned), labels, batches: [[0, 1, 2, 3], [4, 5]] }); // prettier-ignore
    const seen = [[0, 1, 2, 3], [4, 5]].flatMap((batch) => {
      const part = normalized(batch.map((row) => turned[row]!));
      return part.map((row, i) => row.map((value) => value * signs[batch[i]!]!));
    }); // prettier-ignore
    let best = -Infinity;
    for (let step = 0; step < 100_000; step++) {
      const angle = (2 * Math.PI * step) / 100_000;
      best = Math.max(best, Math.min(...seen.map((row) => row[0]! * Math.cos(angle) + row[1]! * Math.sin(angle))));
    }
    assert.ok(Math.abs(Math.max(0, best) - found.margin) < 1e-4, `${best} ${found.margin}`);
  });

  it('takes the batches of a sampler, and says so when it did not settle', () => {
    const features = torch.randn([40, 30], { dtype: 'float64', device });
    const two = Array.from({ length: 40 }, (_, i) => i % 2);
    const sampler = new ShuffleSampler({ size: 40, batchSize: 8, mode: 'single-shuffle' });
    const batches = [...sampler.batches(0)].map((batch) => batch.indices);
    assert.ok(['diverges', 'agrees'].includes(shuffleDivergence({ features, labels: two, batches }).verdict));
    assert.equal(shuffleDivergence({ features, labels: two, batches, iterations: 1 }).verdict, 'undecided');
  });

  it('refuses what does not fit', () => {
    const features = tensor(turned);
    const run = (options: object): unknown => shuffleDivergence({ features, labels, batches: pairsOf(6), ...options });
    assert.throws(() => run({ labels: [0, 1] }), /expected features \[2, D\]/);
    assert.throws(() => run({ labels: [0, 1, 2, 0, 1, 2] }), /two classes, found 3/);
    assert.throws(() => run({ batches: [[0, 6]] }), /no row 6 among 6/);
    assert.throws(() => run({ batches: [[0, 1], [2]] }), /at least two rows/);
    assert.throws(() => run({ batches: [] }), /no batch/);
  });
});
