import assert from 'node:assert/strict';
import {
  angular,
  batchEasy,
  batchEasyHard,
  batchHard,
  DistanceWeightedMiner,
  easyPositive,
  multiSimilarity,
  packedTriplets,
  pairMargin,
  semiHard,
  tripletMargin,
  UniformHistogramMiner,
  type MinerBatch,
} from '../../../src/negatives/mining';
import { scope, torch, type Tensor } from '../../../src/torch';
import { device } from '../../support/device';
import { assertRefuses, cosine, dot, rowsOf, squared, unit } from '../../contrast/objectives/plain';
import {
  euclidean,
  labelsOf,
  listed,
  makeCase,
  makeCases,
  random,
  rowsOfPairs,
  rowsOfTriplets,
  sorted,
  type Case,
} from './plain';

/** The best of some rows by a number. */
function best(rows: number[], value: (row: number) => number, largest: boolean): number | undefined {
  return [...rows].sort((x, y) => (largest ? value(y) - value(x) : value(x) - value(y)))[0];
}

/** Each anchor's choice by a loop. */
function byLoop(
  { distances, pairs: [positives, negatives] }: Case,
  choose: (d: number[], p: number[], n: number[]) => [number | undefined, number | undefined],
): number[][] {
  return distances.flatMap((d, a) => {
    const [p, n] = [positives, negatives].map((pairs) => pairs.filter(([x]) => x === a).map(([, y]) => y!));
    const [positive, negative] = choose(d, p!, n!);
    return positive === undefined || negative === undefined ? [] : [[a, positive, negative]];
  });
}

describe('miners of one triplet an anchor', () => {
  const near = (d: number[], rows: number[]) => best(rows, (x) => d[x]!, false);
  const far = (d: number[], rows: number[]) => best(rows, (x) => d[x]!, true);
  const miners = {
    batchHard: [batchHard, (d, p, n) => [far(d, p), near(d, n)]],
    batchEasy: [batchEasy, (d, p, n) => [near(d, p), far(d, n)]],
    easyPositive: [easyPositive, (d, p, n) => [near(d, p), near(d, n)]],
    'easyPositive with semi-hard negatives': [
      (batch: MinerBatch) => easyPositive(batch, { negative: 'semihard' }),
      (d, p, n) => [near(d, p), near(d, p.length > 0 ? n.filter((x) => d[x]! > d[near(d, p)!]!) : [])],
    ],
  } satisfies Record<
    string,
    [
      (batch: MinerBatch) => ReturnType<typeof batchHard>,
      (d: number[], p: number[], n: number[]) => [number | undefined, number | undefined],
    ]
  >;
  for (const [name, [mine, choose]] of Object.entries(miners)) {
    it(`${name} does as a loop`, () => {
      scope(() => {
        for (const one of makeCases()) {
          const found = mine(one.batch);
          assert.deepEqual(rowsOfTriplets(found), byLoop(one, choose));
          for (const rows of Object.values(found)) assert.equal(rows.dtype, 'int64');
        }
      });
    });
  }

  it('chooses one of several equally far', () => {
    scope(() => {
      const embeddings = torch.tensor(
        [
          [1, 0],
          [1, 0],
          [1, 0],
          [0, 1],
          [0, 1],
        ],
        { dtype: 'float32', device },
      );
      const found = rowsOfTriplets(batchHard({ embeddings, labels: labelsOf([0, 0, 0, 1, 1]) }));
      assert.equal(found.length, 5);
      for (const [a, p, n] of found) {
        assert.notEqual(a, p);
        assert.equal(a! < 3, p! < 3);
        assert.notEqual(a! < 3, n! < 3);
      }
    });
  });

  it('takes given positives and negatives in place of labels', () => {
    scope(() => {
      const one = makeCase([0, 0, 0, 0], [1, 1, 1]);
      const mask = (rows: number[][]) =>
        torch.tensor(
          rows.map((row) => row.map((x) => x === 1)),
          { device },
        );
      const positives = mask([
        [1, 0, 0],
        [0, 1, 1],
        [0, 0, 0],
        [1, 1, 0],
      ]);
      const negatives = mask([
        [0, 1, 0],
        [1, 0, 0],
        [1, 1, 1],
        [0, 0, 0],
      ]);
      const { embeddings, reference } = one.batch;
      const batch = { embeddings, reference: { embeddings: reference!.embeddings }, positives };
      const d = one.distances;
      const nearest = (a: number, rows: number[]) => best(rows, (x) => d[a]![x]!, false)!;
      assert.deepEqual(rowsOfTriplets(batchHard({ ...batch, negatives })), [
        [0, 0, 1],
        [1, d[1]![1]! > d[1]![2]! ? 1 : 2, 0],
      ]);
      const found = rowsOfTriplets(batchHard(batch));
      assert.deepEqual(found[0], [0, 0, nearest(0, [1, 2])]);
      assert.deepEqual(
        found.map(([a]) => a),
        [0, 1, 3],
      );
    });
  });

  it('gives no gradients, and computes half precision in float32', () => {
    scope(() => {
      const { batch } = makeCase([0, 0, 1, 1]);
      const wide = batch.embeddings.to({ dtype: 'bfloat16' });
      const expected = rowsOfTriplets(batchHard({ ...batch, embeddings: wide.to({ dtype: 'float32' }) }));
      const found = batchHard({ ...batch, embeddings: wide.requiresGrad_() });
      assert.deepEqual(rowsOfTriplets(found), expected);
      assert.equal(found.anchors.requiresGrad, false);
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const { batch } = makeCase([0, 0, 1]);
      const { embeddings, labels } = batch;
      assertRefuses(() => batchHard({ embeddings }), /batchHard: give labels, or positives/);
      assertRefuses(() => batchHard({ ...batch, reference: { embeddings } }), /give reference\.labels/);
      assertRefuses(() => batchHard({ embeddings, labels: labels!.to('int32') }), /labels must be int64 \[3\]/);
      assertRefuses(() => batchHard({ embeddings: embeddings.narrow(0, 0, 0), labels: labels! }), /embeddings must be/);
      assertRefuses(
        () => batchHard({ ...batch, reference: { embeddings: random(2, 3), labels: labelsOf([0, 1]) } }),
        /reference\.embeddings must have 4 columns, found 3/,
      );
      assertRefuses(() => batchHard({ embeddings, positives: labels! }), /positives must be bool \[3, 3\]/);
      assertRefuses(() => batchHard(batch, { distance: 'l1' as 'dot' }), /distance must be one of/);
      assertRefuses(() => batchEasyHard(batch, { positive: 'semihard' }), /'semihard' goes by the other choice/);
      assertRefuses(() => batchEasyHard(batch, { positive: 'all' }), /'semihard' goes by the other choice/);
      assertRefuses(() => batchEasyHard(batch, { positive: 'none' as 'all' }), /positive must be one of/);
      assertRefuses(() => batchEasyHard(batch, { positiveRange: [1, 0] }), /positiveRange must be/);
      assertRefuses(() => easyPositive(batch, { negative: 'easy' as 'hard' }), /easyPositive: negative/);
      assertRefuses(() => semiHard(batch, { margin: 0 }), /semiHard: margin/);
      assertRefuses(() => tripletMargin(batch, { margin: -1 }), /tripletMargin: margin/);
      assertRefuses(() => tripletMargin(batch, { type: 'x' as 'all' }), /tripletMargin: type/);
      assertRefuses(() => angular(batch, { angle: 90 }), /angular: angle/);
      assertRefuses(() => multiSimilarity(batch, { epsilon: NaN }), /multiSimilarity: epsilon/);
      assertRefuses(() => pairMargin(batch, { positiveMargin: NaN }), /pairMargin: positiveMargin/);
      assertRefuses(() => packedTriplets(7), /packedTriplets: rows must be a multiple of 3/);
      assertRefuses(() => new DistanceWeightedMiner({ cutoff: 0 }), /DistanceWeightedMiner: cutoff/);
      assertRefuses(() => new UniformHistogramMiner({ bins: 0 }), /UniformHistogramMiner: bins/);
    });
  });
});

describe('miners of many triplets and pairs', () => {
  const triplets = ({ pairs: [positives, negatives] }: Case, keep: (a: number, p: number, n: number) => boolean) =>
    positives.flatMap(([a, p]) =>
      negatives.filter(([x, n]) => x === a && keep(a!, p!, n!)).map(([, n]) => [a!, p!, n!]),
    );

  it('tripletMargin does as a loop', () => {
    scope(() => {
      for (const one of makeCases()) {
        const { batch, distances: d } = one;
        const farther = (a: number, p: number, n: number) => d[a]![n]! - d[a]![p]!;
        const kinds = {
          all: (x: number) => x <= 0.3,
          hard: (x: number) => x <= 0,
          semihard: (x: number) => x > 0 && x <= 0.3,
          easy: (x: number) => x > 0.3,
        };
        for (const [type, holds] of Object.entries(kinds)) {
          const found = tripletMargin(batch, { margin: 0.3, type: type as keyof typeof kinds });
          assert.deepEqual(
            rowsOfTriplets(found),
            triplets(one, (a, p, n) => holds(farther(a, p, n))),
          );
        }
      }
    });
  });

  it('semiHard does as a loop, with and without a margin', () => {
    scope(() => {
      for (const { batch, distances: d, pairs } of makeCases()) {
        for (const margin of [undefined, 0.2]) {
          const expected = pairs[0].flatMap(([a, p]) => {
            const limit = d[a!]![p!]!;
            const rows = pairs[1].filter(([x]) => x === a).map(([, n]) => n!);
            const allowed = rows.filter((n) => d[a!]![n]! > limit && d[a!]![n]! <= limit + (margin ?? Infinity));
            const n = best(allowed, (x) => d[a!]![x]!, false);
            return n === undefined ? [] : [[a!, p!, n]];
          });
          assert.deepEqual(rowsOfTriplets(semiHard(batch, margin === undefined ? {} : { margin })), expected);
        }
      }
    });
  });

  it('angular does as a loop', () => {
    scope(() => {
      for (const one of makeCases()) {
        const a = rowsOf(one.batch.embeddings).map(unit);
        const b = one.batch.reference === undefined ? a : rowsOf(one.batch.reference.embeddings).map(unit);
        const expected = triplets(one, (x, p, n) => {
          const middle = a[x]!.map((value, i) => (value + b[p]![i]!) / 2);
          return Math.atan(euclidean(a[x]!, b[p]!) / (2 * euclidean(b[n]!, middle))) > (35 * Math.PI) / 180;
        });
        assert.deepEqual(rowsOfTriplets(angular(one.batch, { angle: 35 })), expected);
      }
    });
  });

  it('measures in every distance', () => {
    scope(() => {
      const one = makeCase([0, 1, 0, 1, 2, 2, 0]);
      const rows = rowsOf(one.batch.embeddings);
      const measures = {
        euclidean: (a: number[], b: number[]) => euclidean(a, b),
        squaredEuclidean: (a: number[], b: number[]) => squared(a, b),
        cosine: (a: number[], b: number[]) => 1 - cosine(a, b),
        dot: (a: number[], b: number[]) => -dot(a, b),
      };
      for (const normalize of [true, false]) {
        const ready = normalize ? rows.map(unit) : rows;
        for (const [distance, measure] of Object.entries(measures)) {
          const [positives, negatives] = one.pairs;
          const d = ([a, b]: number[]) => measure(ready[a!]!, ready[b!]!);
          const found = pairMargin(one.batch, {
            positiveMargin: 0.4,
            negativeMargin: 0.9,
            distance: distance as keyof typeof measures,
            normalize,
          });
          assert.deepEqual(rowsOfPairs(found), [
            positives.filter((pair) => d(pair) > 0.4),
            negatives.filter((pair) => d(pair) < 0.9),
          ]);
        }
      }
    });
  });

  it('multiSimilarity does as a loop', () => {
    scope(() => {
      for (const { batch, distances, pairs } of makeCases()) {
        // 1 − cosine of unit vectors is half the squared distance.
        const s = distances.map((row) => row.map((x) => 1 - (x * x) / 2));
        const of = (side: 0 | 1, a: number) => pairs[side].filter(([x]) => x === a).map(([, y]) => s[a]![y!]!);
        const expected = [
          pairs[0].filter(([a, p]) => s[a!]![p!]! < Math.max(...of(1, a!)) + 0.2),
          pairs[1].filter(([a, n]) => s[a!]![n!]! > Math.min(...of(0, a!)) - 0.2),
        ];
        assert.deepEqual(rowsOfPairs(multiSimilarity(batch, { epsilon: 0.2 })), expected);
      }
    });
  });

  it('go through several tiles of pairs', () => {
    scope(() => {
      // On a circle: 2,000 positive pairs, each with 4,000 negatives.
      const onCircle = (angles: number[]): Tensor =>
        torch.tensor(
          angles.map((x) => [Math.cos(x), Math.sin(x)]),
          { dtype: 'float64', device },
        );
      const angles = Array.from({ length: 5000 }, (_, i) => ((i * 7919) % 5003) / 5003);
      const anchors = [0.1003, 0.7001];
      const labels = angles.map((_, i) => (i % 5 === 0 ? 0 : 1));
      const batch: MinerBatch = {
        embeddings: onCircle(anchors),
        labels: labelsOf([0, 0]),
        reference: { embeddings: onCircle(angles), labels: labelsOf(labels) },
      };
      const chord = (a: number, b: number) => 2 * Math.sin(Math.abs(anchors[a]! - angles[b]!) / 2);
      const positives = angles.map((_, i) => i).filter((i) => labels[i] === 0);
      const negatives = angles.map((_, i) => i).filter((i) => labels[i] === 1);
      const semi = rowsOfTriplets(semiHard(batch));
      const close = rowsOfTriplets(tripletMargin(batch, { margin: 2e-4, type: 'semihard' }));
      const expected = [0, 1].flatMap((a) => {
        const order = negatives.map((n) => ({ n, d: chord(a, n) })).sort((x, y) => x.d - y.d);
        return positives.map((p) => {
          const d = chord(a, p);
          const [from, to] = [d, d + 2e-4].map((limit) => {
            let [low, high] = [0, order.length];
            while (low < high) {
              const middle = (low + high) >> 1;
              if (order[middle]!.d > limit) high = middle;
              else low = middle + 1;
            }
            return low;
          });
          return { a, p, within: order.slice(from, to).map(({ n }) => n), nearest: order[from!]?.n };
        });
      });
      const wanted = expected.filter(({ nearest }) => nearest !== undefined);
      assert.deepEqual(
        semi,
        wanted.map(({ a, p, nearest }) => [a, p, nearest]),
      );
      assert.deepEqual(sorted(close), sorted(expected.flatMap(({ a, p, within }) => within.map((n) => [a, p, n]))));
      assert.ok(close.length > 100);
      const drawn = rowsOfTriplets(new DistanceWeightedMiner().mine(batch));
      assert.deepEqual(
        drawn.map(([a, p]) => [a, p]),
        expected.map(({ a, p }) => [a, p]),
      );
      assert.ok(drawn.every(([, , n]) => labels[n!] === 1));
    });
  });

  it('packedTriplets counts by threes', () => {
    assert.deepEqual(listed(packedTriplets(6, device)), [
      [0, 3],
      [1, 4],
      [2, 5],
    ]);
    assert.deepEqual(listed(packedTriplets(3)), [[0], [1], [2]]);
  });
});
