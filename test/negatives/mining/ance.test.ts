import assert from 'node:assert/strict';
import { ANCE, ApproximateIndex, ExactIndex, type SearchIndex } from '../../../src/negatives/mining';
import { optionalPackage } from '../../../src/negatives/mining/optional-package';
import { Generator, keep, scope, torch, type Tensor } from '../../../src/torch';
import { device } from '../../support/device';
import { assertRefuses, cosine, rowsOf } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 4 });
const random = (rows: number, columns = 6): Tensor =>
  scope(() => keep(torch.randn([rows, columns], { generator }).to({ device })));

/** The documents that may be drawn for each query, by a loop. */
const allowed = (queries: Tensor, documents: Tensor, positives: number[], depth: number): number[][] => {
  const d = rowsOf(documents);
  return rowsOf(queries).map((query, q) =>
    d
      .map((document, id) => ({ id, score: cosine(query, document) }))
      .filter(({ id }) => id !== positives[q])
      .sort((a, b) => b.score - a.score)
      .slice(0, depth)
      .map(({ id }) => id),
  );
};

describe('ANCE', () => {
  it('draws from the best documents that are no positives, each equally likely', async () => {
    const [documents, query] = [random(12), random(1)];
    const ance = new ANCE({ index: new ExactIndex(), depth: 4, negatives: 2 });
    await ance.step(() => ({ embeddings: documents }));
    scope(() => {
      const best = allowed(query, documents, [-1], 1)[0]![0]!;
      const expected = allowed(query, documents, [best], 4)[0]!;
      const positives = labelsOf(Array<number>(400).fill(best));
      const { ids, scores } = ance.sample(query.expand([400, 6]), positives);
      const counts = new Map(expected.map((id) => [id, 0]));
      for (const [first, second] of rowsOf(ids) as [number, number][]) {
        assert.notEqual(first, second);
        for (const id of [first, second]) counts.set(id, counts.get(id)! + 1);
      }
      assert.deepEqual([...counts.keys()], expected);
      for (const count of counts.values()) assert.ok(Math.abs(count - 200) < 45, `${count} of 200`);
      const score = cosine(rowsOf(query)[0]!, rowsOf(documents)[rowsOf(ids)[0]![0]!]!);
      assert.ok(Math.abs(rowsOf(scores)[0]![0]! - score) < 1e-5);
    });
  });

  it('marks what a small corpus lacks', async () => {
    const ance = new ANCE({ index: new ExactIndex(), negatives: 3 });
    await ance.step(() => ({ embeddings: random(3), ids: labelsOf([5, 6, 7]) }));
    scope(() => {
      const { ids, scores } = ance.sample(random(2), labelsOf([5, 9]));
      const [first, second] = rowsOf(ids) as [number[], number[]];
      assert.deepEqual([...first].sort(), [-1, 6, 7]);
      assert.equal(first[2], -1);
      assert.equal(rowsOf(scores)[0]![2], -Infinity);
      assert.deepEqual([...second].sort(), [5, 6, 7]);
      const none = torch.tensor(
        [
          [5n, 6n],
          [7n, -1n],
        ],
        { device },
      );
      assert.deepEqual(
        rowsOf(ance.sample(random(2), none).ids).map((row) => row.filter((id) => id >= 0).length),
        [1, 2],
      );
    });
  });

  const indexes: Record<string, () => SearchIndex> = {
    exact: () => new ExactIndex(),
    approximate: () => new ApproximateIndex({ dimension: 6 }),
  };
  for (const [name, make] of Object.entries(indexes)) {
    it(`renews an ${name} index at fixed steps, and goes on from any of them with the same negatives`, async function () {
      try {
        make();
        if (name === 'approximate') optionalPackage('usearch', '2', 'the test');
      } catch {
        this.skip();
      }
      const versions = Array.from({ length: 4 }, () => random(50));
      const queries = random(5);
      const positives = labelsOf([0, 1, 2, 3, 4]);
      const options = { every: 4, lag: 2, depth: 10, negatives: 3 };
      let encoded = 0;
      const steps = async (ance: ANCE, count: number): Promise<number[][]> => {
        const drawn: number[][] = [];
        for (let step = 0; step < count; step++) {
          await ance.step(() => {
            encoded++;
            return { embeddings: versions[Math.floor(ance.steps / 4)]! };
          });
          drawn.push(scope(() => integersOf(ance.sample(queries, positives).ids)));
        }
        return drawn;
      };
      const whole = new ANCE({ index: make(), ...options });
      const expected = await steps(whole, 11);
      assert.equal(encoded, 3);
      // From step 6 on, the second version of the documents is searched, not before.
      for (const [step, version] of [
        [5, 0],
        [6, 1],
        [9, 1],
        [10, 2],
      ] as const) {
        const best = scope(() => allowed(queries, versions[version]!, [0, 1, 2, 3, 4], 10));
        expected[step]!.forEach((id, i) => {
          if (name === 'exact') assert.ok(best[Math.floor(i / 3)]!.includes(id), `step ${step}`);
        });
      }
      for (const stop of [1, 5, 6, 9]) {
        const first = new ANCE({ index: make(), ...options });
        await steps(first, stop);
        const second = new ANCE({ index: make(), ...options, seed: 77 });
        second.loadStateDict(first.stateDict());
        assert.equal(second.steps, stop);
        assert.deepEqual(await steps(second, 11 - stop), expected.slice(stop), `from step ${stop}`);
      }
    });
  }

  it('does not count a step that failed, and refuses what does not fit', async () => {
    const ance = new ANCE({ index: new ExactIndex() });
    await assert.rejects(
      ance.step(() => Promise.reject(new Error('no encoder'))),
      /no encoder/,
    );
    assert.equal(ance.steps, 0);
    assertRefuses(() => ance.sample(random(1), labelsOf([0])), /it is empty/);
    await ance.step(() => ({ embeddings: random(4) }));
    const state = ance.stateDict();
    assertRefuses(() => ance.sample(random(1), labelsOf([0, 1])), /ANCE: positives must be int64 \[1\]/);
    assertRefuses(() => ance.sample(random(1, 5), labelsOf([0])), /queries must have 6 columns/);
    assert.ok(state.tensors.get('draws.generator')!.equal(ance.stateDict().tensors.get('draws.generator')!));
    assertRefuses(() => new ANCE({ index: new ExactIndex(), every: 3, lag: 3 }), /lag must be less than every/);
    assertRefuses(() => new ANCE({ index: new ExactIndex(), depth: 0 }), /depth/);
    assertRefuses(() => {
      ance.loadStateDict({ ...state, values: { ...(state.values as object), progress: { steps: -1, started: null } } });
    }, /steps/);
    assertRefuses(() => {
      new ANCE({ index: new ExactIndex({ similarity: 'dot' }) }).loadStateDict(state);
    }, /similarity/);
  });
});
