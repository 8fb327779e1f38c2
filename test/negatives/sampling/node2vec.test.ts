import assert from 'node:assert/strict';
import { Node2VecSampler, type Node2VecSamplerOptions } from '../../../src/negatives/sampling/node2vec';
import { RandomSource } from '../../../src/negatives/sampling/random-source';
import { givesTheSameOnEveryRank, keepsTheContract, upTo } from './contract';

// A square with one diagonal and a tail: 0-1, 1-2, 2-3, 3-0, 0-2, 3-4.
const sources = [0, 1, 2, 3, 0, 3];
const targets = [1, 2, 3, 0, 2, 4];
const weights = [1, 2, 1, 3, 1, 0.5];
const graph = { nodes: 5, sources, targets, weights };
const options = { graph, batchSize: 4, walkLength: 7, walksPerNode: 3, window: 2, negatives: 2 };

/** The weight of each edge, from node to node. */
function matrix(of: typeof graph & { directed?: boolean }): number[][] {
  const table = upTo(of.nodes).map(() => upTo(of.nodes).map(() => 0));
  of.sources.forEach((source, edge) => {
    const [target, weight] = [of.targets[edge]!, of.weights[edge]!];
    table[source]![target]! += weight;
    if (!of.directed && source !== target) table[target]![source]! += weight;
  });
  return table;
}

describe('Node2VecSampler', () => {
  keepsTheContract((shared) => new Node2VecSampler({ ...options, ...shared }));

  it('walks along edges, from each node as often as told', () => {
    const table = matrix(graph);
    const sampler = new Node2VecSampler({ ...options, returnParameter: 0.3, inOutParameter: 4 });
    const starts: number[] = [];
    for (const { indices, walks } of sampler.batches(0)) {
      starts.push(...indices);
      walks.forEach((walk, row) => {
        assert.equal(walk[0], indices[row]);
        assert.equal(walk.length, 7);
        walk.slice(1).forEach((node, step) => assert.ok(table[walk[step]!]![node]! > 0));
      });
    }
    for (const node of upTo(5)) assert.equal(starts.filter((start) => start === node).length, 3);
  });

  it('takes steps with the probabilities of the paper, directed or not', () => {
    const directed = {
      nodes: 4,
      sources: [0, 1, 1, 1, 0, 2, 3],
      targets: [1, 0, 2, 3, 2, 1, 1],
      weights: [1, 1, 2, 1, 1, 1, 1],
      directed: true,
    };
    for (const of of [graph, directed]) {
      const [p, q] = [0.25, 3];
      const table = matrix(of);
      const sampler = new Node2VecSampler({
        ...options,
        graph: of,
        returnParameter: p,
        inOutParameter: q,
        walkLength: 3,
      });
      const random = new RandomSource(5);
      const runs = 12_000;
      const counts = new Map<string, number>();
      for (let run = 0; run < runs; run++) {
        const key = sampler.walk(0, random).join();
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      const total = (row: number[]) => row.reduce((a, b) => a + b);
      let covered = 0;
      for (const v of upTo(of.nodes).filter((node) => table[0]![node]! > 0)) {
        const biased = table[v]!.map((weight, x) => weight * (x === 0 ? 1 / p : table[0]![x]! > 0 ? 1 : 1 / q));
        for (const x of upTo(of.nodes).filter((node) => biased[node]! > 0)) {
          const expected = (table[0]![v]! / total(table[0]!)) * (biased[x]! / total(biased));
          covered += expected;
          const found = (counts.get(`0,${v},${x}`) ?? 0) / runs;
          assert.ok(Math.abs(found - expected) < 0.02, `0,${v},${x}: ${found} for ${expected}`);
        }
      }
      assert.ok(Math.abs(covered - 1) < 1e-12);
    }
  });

  it('pairs nodes within the window, with negatives by degree', () => {
    const sampler = new Node2VecSampler({ ...options, negatives: 3 });
    const batch = sampler.next();
    const expected = batch.walks.flatMap((walk) =>
      [...walk].flatMap((center, place) =>
        [...walk].flatMap((context, other) =>
          other !== place && Math.abs(other - place) <= 2 ? [[center, context]] : [],
        ),
      ),
    );
    assert.deepEqual(
      Array.from(batch.centers, (center, pair) => [center, batch.contexts[pair]]),
      expected,
    );
    assert.equal(batch.negatives.length, 3 * expected.length);
    for (const negativePower of [undefined, 2]) {
      const many = new Node2VecSampler({ ...options, negatives: 40, negativePower });
      const drawn = [...many.batches(0)].flatMap((one) => [...one.negatives]);
      const degrees = matrix(graph).map((row) => row.reduce((x, y) => x + y) ** (negativePower ?? 0.75));
      const all = degrees.reduce((x, y) => x + y);
      degrees.forEach((degree, node) => {
        const share = drawn.filter((other) => other === node).length / drawn.length;
        assert.ok(Math.abs(share - degree / all) < 0.015, `${node}: ${share} for ${degree / all}`);
      });
    }
  });

  it('walks the same ways on any number of processes', () => {
    givesTheSameOnEveryRank(
      (shared) => new Node2VecSampler({ ...options, ...shared }),
      (sampler) => sampler.next().walks.map((walk) => walk.join()),
    );
  });

  it('adds equal edges up, leaves out those of no weight, and ends where there is no way on', () => {
    const twice = { nodes: 3, sources: [0, 0, 0, 1], targets: [1, 1, 2, 2], weights: [1, 2, 3, 0], directed: true };
    const sampler = new Node2VecSampler({ ...options, graph: twice });
    const random = new RandomSource(1);
    const ends = Array.from({ length: 4000 }, () => sampler.walk(0, random));
    assert.ok(ends.every((walk) => walk.length === 2));
    assert.ok(Math.abs(ends.filter((walk) => walk[1] === 1).length / 4000 - 0.5) < 0.03);
    const lone = new Node2VecSampler({ ...options, graph: { ...graph, nodes: 6 } });
    assert.deepEqual(Array.from(lone.walk(5, random)), [5]);
  });

  it('refuses what does not fit', () => {
    const make = (change: Partial<Node2VecSamplerOptions>) => () => new Node2VecSampler({ ...options, ...change });
    assert.throws(make({ graph: { ...graph, nodes: 4 } }), /nodes from 0 to 3, found 4/);
    assert.throws(make({ graph: { ...graph, weights: [1] } }), /6 finite numbers/);
    assert.throws(make({ graph: { ...graph, weights: weights.map((weight) => -weight) } }), /at least 0/);
    assert.throws(make({ graph: { ...graph, weights: weights.map(() => 0) } }), /at least one edge/);
    assert.throws(make({ returnParameter: 0 }), /returnParameter must be a number above 0/);
    assert.throws(make({ inOutParameter: NaN }), /inOutParameter/);
  });
});
