/** Mining by loops over plain numbers. */
import { Generator, torch, type Tensor } from '../../../src/torch';
import type { MinedIndices, MinerBatch } from '../../../src/negatives/mining';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { rowsOf, unit } from '../../contrast/objectives/plain';

export const labelsOf = (values: readonly number[]): Tensor => torch.tensor(values.map(BigInt), { device });

/** The values of an int64 tensor, or of one of any type. */
export const integersOf = (tensor: Tensor): number[] => numbers(tensor.flatten());

/** The indices as lists: two of each pair's, or three of each triplet's. */
export function listed(mined: MinedIndices): number[][] {
  const sides =
    'anchors' in mined
      ? [mined.anchors, mined.positives, mined.negatives]
      : [mined.anchors1, mined.positives, mined.anchors2, mined.negatives];
  return sides.map(integersOf);
}

/** Triplets as [anchor, positive, negative]. */
export function rowsOfTriplets(mined: MinedIndices): number[][] {
  const [anchors, positives, negatives] = listed(mined) as [number[], number[], number[]];
  return anchors.map((anchor, i) => [anchor, positives[i]!, negatives[i]!]);
}

/** Positive and negative pairs as [anchor, other], in order of rows. */
export function rowsOfPairs(mined: MinedIndices): [positive: number[][], negative: number[][]] {
  const [a1, p, a2, n] = listed(mined) as [number[], number[], number[], number[]];
  return [sorted(a1.map((a, i) => [a, p[i]!])), sorted(a2.map((a, i) => [a, n[i]!]))];
}

export const sorted = (rows: number[][]): number[][] =>
  [...rows].sort((a, b) => a.map((x, i) => x - b[i]!).find((x) => x !== 0) ?? 0);

export const euclidean = (a: readonly number[], b: readonly number[]): number =>
  Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0));

/** Every positive pair and every negative pair of labels: no row with itself where there is no reference. */
export function allPairs(labels: readonly number[], reference?: readonly number[]): [number[][], number[][]] {
  const positives: number[][] = [];
  const negatives: number[][] = [];
  labels.forEach((label, a) => {
    (reference ?? labels).forEach((other, b) => {
      if (reference === undefined && a === b) return;
      (label === other ? positives : negatives).push([a, b]);
    });
  });
  return [positives, negatives];
}

const generator = new Generator({ seed: 5 });
export const random = (rows: number, columns = 4): Tensor =>
  torch.randn([rows, columns], { dtype: 'float64', generator }).to({ device });

export interface Case {
  batch: MinerBatch;
  /** Distances of embeddings of length one. */
  distances: number[][];
  pairs: [positives: number[][], negatives: number[][]];
}

export function makeCase(labels: number[], reference?: number[]): Case {
  const embeddings = random(labels.length);
  const others = reference === undefined ? embeddings : random(reference.length);
  const [a, b] = [rowsOf(embeddings).map(unit), rowsOf(others).map(unit)];
  return {
    batch: {
      embeddings,
      labels: labelsOf(labels),
      ...(reference && { reference: { embeddings: others, labels: labelsOf(reference) } }),
    },
    distances: a.map((x) => b.map((y) => euclidean(x, y))),
    pairs: allPairs(labels, reference),
  };
}

export const makeCases = (): Case[] => [
  makeCase([0]),
  makeCase([0, 0]),
  makeCase([0, 1]),
  makeCase([0, 0, 1]),
  makeCase([0, 1, 0, 2, 1, 2, 2, 0, 3]),
  makeCase([0, 1, 1], [1, 0, 4, 0, 1, 2, 1]),
  makeCase([5], [1, 2]),
];
