import assert from 'node:assert/strict';
import { Gml, type GmlBatch } from '../../../src/contrast/objectives/gml';
import { grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import {
  assertFinite,
  assertRefuses,
  assertValue,
  dot,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
  unit,
} from './plain';

const counts = [6, 3, 1];
const prior = counts.map((c) => Math.log(c / 10));
const batchOf = (count: number, keyCount = 7): GmlBatch & Required<Pick<GmlBatch, 'ids' | 'keyIds'>> => ({
  queries: random([count, 4]),
  labels: ids(Array.from({ length: count }, (_, i) => i % 3)),
  ids: ids(Array.from({ length: count }, (_, i) => i)),
  keys: random([keyCount, 4]),
  keyLabels: ids(Array.from({ length: keyCount }, (_, k) => k % 3)),
  keyIds: ids(Array.from({ length: keyCount }, (_, k) => k)),
  logits: random([count, 3]),
});
const crossEntropy = (rows: number[][], labels: number[]): number =>
  mean(
    rows
      .flatMap((row, i) => (row[labels[i]!] === -Infinity ? [] : [Math.log(sumExp(row)) - row[labels[i]!]!]))
      .concat(rows.length === 0 ? [0] : []),
  );
const features = (batch: GmlBatch, t: number, leaveOut: boolean): number => {
  const [q, k] = [rowsOf(batch.queries).map(unit), rowsOf(batch.keys).map(unit)];
  const [labels, keyLabels] = [numbers(batch.labels), numbers(batch.keyLabels)];
  const rows = q.map((row, i) =>
    counts.map((_, c) => {
      const scores = k.flatMap((key, j) => (keyLabels[j] === c && !(leaveOut && i === j) ? [dot(row, key) / t] : []));
      return Math.log(sumExp(scores) / scores.length || 0) + prior[c]!;
    }),
  );
  return rows.every((row, i) => row[labels[i]!] === -Infinity) ? 0 : crossEntropy(rows, labels);
};
const classifier = (batch: GmlBatch, t: number): number =>
  crossEntropy(
    rowsOf(batch.logits).map((row) => row.map((x, c) => x / t + prior[c]!)),
    numbers(batch.labels),
  );

describe('Gml', () => {
  it('is the cross-entropy of the classifier, and of log-mean-exps over the keys of classes', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const batch = batchOf(count);
        const loss = new Gml({ classCounts: counts, temperature: 0.5, featureWeight: 0.7, classifierWeight: 0.3 });
        const t = Math.exp(loss.logTemperature.itemSync());
        const expected = 0.3 * classifier(batch, 1 / 30) + 0.7 * (features(batch, t, false) + features(batch, t, true));
        assertValue(loss.forward(batch), expected);
        const plain = { ...batch, ids: undefined, keyIds: undefined };
        const distinct = 0.3 * classifier(batch, 1 / 30) + 1.4 * features(batch, t, false);
        assertValue(loss.forward(plain), distinct);
      }
    });
  });

  it('leaves out classes without keys, and samples whose class has none', () => {
    scope(() => {
      // Two keys: class 2 has none, and query 0 is class 0's only key.
      const batch = batchOf(3, 2);
      const loss = new Gml({ classCounts: counts, classifierWeight: 0 });
      const queries = batch.queries.requiresGrad_();
      const value = loss.forward(batch);
      assertValue(value, features(batch, 1, false) + features(batch, 1, true));
      for (const slope of grad(value, [queries, loss.logTemperature], { allowUnused: true })) {
        assert.equal(slope!.isfinite().all().itemSync(), 1);
      }
    });
  });

  it('distils from a teacher', () => {
    scope(() => {
      const batch = { ...batchOf(4), teacherLogits: random([4, 3]) };
      const weights = { classCounts: counts, featureWeight: 0, classifierWeight: 0, distillationWeight: 2 };
      const soft = (row: number[]): number[] => {
        const parts = row.map((x) => Math.exp((x * 30) / 4));
        return parts.map((x) => x / total(parts));
      };
      const [student, teacher] = [rowsOf(batch.logits).map(soft), rowsOf(batch.teacherLogits).map(soft)];
      const divergence = mean(teacher.map((row, i) => total(row.map((p, c) => p * Math.log(p / student[i]![c]!)))));
      assertValue(new Gml(weights).forward(batch), 2 * 16 * divergence);
    });
  });

  it('gives embeddings a gradient in one part and the temperature in the other', () => {
    scope(() => {
      const batch = batchOf(4);
      const loss = new Gml({ classCounts: counts, temperature: 0.5 });
      const t = Math.exp(loss.logTemperature.itemSync());
      const [slope] = grad(loss.forward(batch), [loss.logTemperature]);
      const bump = 1e-5;
      const byDifferences =
        (features(batch, t * (1 + bump), true) - features(batch, t * (1 - bump), true)) / (2 * bump);
      assertValue(slope!, byDifferences, 'slope', 1e-5);
      // In the part that is left when no sample is a key, both parts are one function of the embeddings.
      const [queries] = [learning([3, 4])];
      const plain = { ...batchOf(3), ids: undefined, keyIds: undefined };
      const zero = new Gml({ classCounts: counts, temperature: 0.5, classifierWeight: 0 });
      const [found] = grad(zero.forward({ ...plain, queries }), [queries]);
      const step = torch.randn([3, 4], { dtype: 'float64' });
      const at = (sign: number): number =>
        features({ ...plain, queries: queries.detach().add(step.mul(sign * 1e-6)) }, t, false);
      assertValue(found!.mul(step).sum(), (at(1) - at(-1)) / 2e-6, 'directional slope', 1e-5);
      gradcheck(
        (logits) => new Gml({ classCounts: counts, classifierTemperature: 1 }).forward({ ...batch, logits: logits! }),
        [learning([4, 3])],
      );
    });
  });

  it('is finite at extreme temperatures, keeps its state, and refuses what does not fit', () => {
    assertFinite(
      (temperature, queries: Tensor, keys: Tensor) => {
        const batch = batchOf(5);
        const logits = batch.logits.to('float32');
        return new Gml({ classCounts: counts, temperature }).forward({ ...batch, queries, keys, logits });
      },
      [
        [5, 4],
        [7, 4],
      ],
    );
    const loss = new Gml({ classCounts: counts });
    assert.deepEqual([...loss.stateDict().keys()], ['log_temperature', 'log_prior']);
    assertRefuses(() => loss.forward({ ...batchOf(2), logits: random([2, 4]) }), /logits: expected shape \[2, 3\]/);
    assertRefuses(() => loss.forward({ ...batchOf(2), ids: undefined }), /ids and keyIds go together/);
    assertRefuses(() => new Gml({ classCounts: [1, 0] }), /the count of class 1 must be a number above 0/);
  });
});
