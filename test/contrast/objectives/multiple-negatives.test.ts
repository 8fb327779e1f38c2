import { clip } from '../../../src/contrast/objectives/clip';
import { multipleNegatives, type MultipleNegativesOptions } from '../../../src/contrast/objectives/multiple-negatives';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, dot, ids, mean, random, rowsOf, sumExp } from './plain';

interface Pair {
  row: number[];
  /** Of whose pair it is, −1 for nobody's. */
  id: number;
}

function byLoop(anchors: Tensor, positives: Tensor, options: MultipleNegativesOptions): number[] {
  const { margin = 0, labelSmoothing = 0, falseNegativeMargin = Infinity, shareNegatives = true, negatives } = options;
  const temperature = (options.temperature ?? 0.05) as number;
  const similarity = options.similarity === 'dot' ? dot : cosine;
  const idOf = (i: number): number => (options.ids === undefined ? i : options.ids.at(i).itemSync());
  const pairs = (x: Tensor): Pair[] => rowsOf(x).map((row, i) => ({ row, id: idOf(i) }));
  const [a, p] = [pairs(anchors), pairs(positives)];
  const hard: (Pair & { from: number })[] = [];
  if (negatives?.ndim === 2) rowsOf(negatives).forEach((row) => hard.push({ row, id: NaN, from: -1 }));
  if (negatives?.ndim === 3) {
    a.forEach(({ id }, i) => {
      rowsOf(negatives.at(i)).forEach((row) => hard.push({ row, id, from: i }));
    });
  }
  return a.map((anchor, i) => {
    const positive = p[i]!;
    const similar = similarity(anchor.row, positive.row);
    const own = (similar - margin) / temperature;
    const scores = (x: Pair, others: Pair[]): number[] =>
      others
        .map(({ row }) => similarity(x.row, row))
        .filter((s) => s <= similar + falseNegativeMargin)
        .map((s) => s / temperature);
    const differing = (others: Pair[]): Pair[] => others.filter(({ id }) => id !== anchor.id);
    const isShared = shareNegatives || negatives?.ndim === 2;
    const ofAnchor = scores(anchor, differing(p));
    ofAnchor.push(
      ...scores(
        anchor,
        hard.filter(({ from }) => isShared || from === i),
      ),
    );
    if (options.contrastAnchors === true) ofAnchor.push(...scores(anchor, differing(a)));
    const ofPositive: number[] = [];
    if (options.contrastPositives === true) {
      ofPositive.push(...scores(positive, differing(p)));
      if (isShared) ofPositive.push(...scores(positive, differing(hard)));
    }
    if (options.bothDirections === true) ofPositive.push(...scores(positive, differing(a)));
    const loss = (all: number[]): number =>
      Math.log(sumExp(all)) - (1 - labelSmoothing) * own - labelSmoothing * mean(all);
    if (options.softmax === 'perDirection') return (loss([own, ...ofAnchor]) + loss([own, ...ofPositive])) / 2;
    return loss([own, ...(options.bothDirections === true ? [own] : []), ...ofAnchor, ...ofPositive]);
  });
}

const everything = { bothDirections: true, contrastAnchors: true, contrastPositives: true } as const;

describe('multipleNegatives', () => {
  it('equals a loop, with every option', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, p, queue, hard] = [random([count, 4]), random([count, 4]), random([6, 4]), random([count, 3, 4])];
        const someIds = ids(Array.from({ length: count }, (_, i) => (i === 2 ? 0 : i)));
        for (const options of [
          { temperature: 0.05 },
          { negatives: queue },
          { negatives: hard },
          { negatives: hard, shareNegatives: false },
          { contrastAnchors: true },
          { contrastPositives: true, negatives: hard, ids: someIds },
          { contrastPositives: true, negatives: hard, shareNegatives: false, falseNegativeMargin: 0 },
          { negatives: hard, shareNegatives: false, falseNegativeMargin: -3, labelSmoothing: 0.5 },
          { bothDirections: true, similarity: 'dot' },
          { bothDirections: true, softmax: 'perDirection', ids: someIds, margin: 0.3 },
          { ...everything, negatives: queue, falseNegativeMargin: 0.1 },
          { ...everything, labelSmoothing: 0.2, negatives: hard, margin: 0.1 },
          { ...everything, softmax: 'perDirection', negatives: hard, ids: someIds, labelSmoothing: 0.1 },
        ] as MultipleNegativesOptions[]) {
          const given = { temperature: 0.4, ...options };
          const expected = byLoop(a, p, given);
          for (const execution of ['dense', 'tiled'] as const) {
            const each = multipleNegatives(a, p, { ...given, execution, reduction: 'none' });
            const tolerance = { atol: 1e-10, rtol: 1e-10 };
            assertClose(each, torch.tensor(expected, { dtype: 'float64' }), tolerance, JSON.stringify(options));
            assertValue(multipleNegatives(a, p, { ...given, execution }), mean(expected));
          }
        }
      }
    });
  });

  it('is the cross-entropy of the scores by default, smoothed as LibTorch does', () => {
    scope(() => {
      const [a, p] = [random([130, 8]), random([130, 8])];
      const unit = (x: Tensor): Tensor => x.div(x.square().sum([1], true).sqrt());
      const scores = unit(a).matmul(unit(p).t()).mul(20);
      const labels = torch.arange(130, { dtype: 'int64' });
      assertClose(multipleNegatives(a, p), torch.crossEntropyLoss(scores, labels), { atol: 1e-12 });
      const smoothed = torch.crossEntropyLoss(scores, labels, { labelSmoothing: 0.1 });
      assertClose(multipleNegatives(a, p, { labelSmoothing: 0.1 }), smoothed, { atol: 1e-12 });
    });
  });

  it('is the objective of CLIP with both directions, and NT-Xent with everything, per direction', () => {
    scope(() => {
      const [a, p] = [random([9, 4]), random([9, 4])];
      const options = { temperature: 0.1, softmax: 'perDirection' } as const;
      const both = multipleNegatives(a, p, { ...options, bothDirections: true });
      assertClose(both, clip(a, p, { temperature: 0.1 }), { atol: 1e-12 });
      assertClose(multipleNegatives(a, p, { ...options, ...everything }), ntXent([a, p], options), { atol: 1e-12 });
    });
  });

  it('has the pair itself twice in one softmax of both directions', () => {
    scope(() => {
      const [a, p] = [random([1, 4]), random([1, 4])];
      assertValue(multipleNegatives(a, p, everything), Math.log(2));
      assertValue(multipleNegatives(a, p, { ...everything, softmax: 'perDirection' }), 0);
    });
  });

  it('refuses what does not fit', () => {
    const [a, p] = [random([4, 3]), random([4, 3])];
    const refuses = (options: MultipleNegativesOptions, message: RegExp): void => {
      assertRefuses(() => multipleNegatives(a, p, options), message);
    };
    refuses({ negatives: random([5, 2]) }, /multipleNegatives: negatives: expected shape \[N, 3\], found \[5, 2\]/);
    refuses({ negatives: random([5, 2, 3]) }, /negatives: expected shape \[M, 3\] or \[4, K, 3\], found \[5, 2, 3\]/);
    refuses({ softmax: 'perDirection' }, /a softmax per direction needs bothDirections/);
    refuses({ softmax: 'both' as never }, /softmax must be 'joint' or 'perDirection', found 'both'/);
    refuses({ labelSmoothing: 2 }, /labelSmoothing must be a number at least 0 and at most 1/);
    refuses({ ids: random([4]) }, /ids must be int64/);
    refuses({ temperature: -1 }, /temperature must be a number above 0/);
    assertRefuses(() => multipleNegatives(a, random([3, 3])), /positives: expected shape \[4, 3\], found \[3, 3\]/);
  });
});
