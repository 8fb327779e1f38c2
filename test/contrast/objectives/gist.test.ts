import { gist, type GistGuides, type GistOptions } from '../../../src/contrast/objectives/gist';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, mean, random, rowsOf, sumExp } from './plain';

function byLoop(anchors: Tensor, positives: Tensor, guides: GistGuides, options: GistOptions): number[] {
  const { temperature = 0.01, margin = 0, marginStrategy = 'absolute' } = options;
  const [a, p, guideA, guideP] = [anchors, positives, guides.anchors, guides.positives].map(rowsOf) as number[][][];
  const [n, guideN] = [options.negatives, guides.negatives].map((x) => (x === undefined ? [] : rowsOf(x)));
  return a!.map((anchor, i) => {
    const own = cosine(guideA![i]!, guideP![i]!);
    const limit = marginStrategy === 'absolute' ? own - margin : own - Math.abs(own) * margin;
    const scores: number[] = [];
    const add = (x: number[], guide: number[], others: number[][], otherGuides: number[][], skip: number): void => {
      others.forEach((y, j) => {
        if (j !== skip && cosine(guide, otherGuides[j]!) <= limit) scores.push(cosine(x, y) / (temperature as number));
      });
    };
    add(anchor, guideA![i]!, p!, guideP!, i);
    if (options.contrastAnchors !== false) add(anchor, guideA![i]!, a!, guideA!, i);
    if (options.contrastPositives !== false) add(p![i]!, guideP![i]!, p!, guideP!, i);
    add(anchor, guideA![i]!, n!, guideN!, -1);
    const positive = cosine(anchor, p![i]!) / (temperature as number);
    return Math.log(Math.exp(positive) + sumExp(scores)) - positive;
  });
}

describe('gist', () => {
  it('equals a loop, with every choice of blocks and margin', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, p, negatives] = [random([count, 4]), random([count, 4]), random([7, 4])];
        const guideA = random([count, 3]);
        // Positives that the guide finds alike, so that some negatives are left.
        const guideP = guideA.add(random([count, 3]).mul(0.7));
        const pairs = { anchors: guideA, positives: guideP };
        const withNegatives = { ...pairs, negatives: random([7, 3]) };
        for (const [guides, options] of [
          [pairs, {}],
          [pairs, { contrastAnchors: false }],
          [pairs, { contrastPositives: false, margin: 0.2 }],
          [withNegatives, { negatives, margin: -0.1 }],
          [withNegatives, { negatives, margin: 0.2, marginStrategy: 'relative' }],
        ] as [GistGuides, GistOptions][]) {
          const given = { ...options, temperature: 0.2 };
          const expected = byLoop(a, p, guides, given);
          for (const execution of ['dense', 'tiled'] as const) {
            const each = gist(a, p, guides, { ...given, execution, reduction: 'none' });
            assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
            assertValue(gist(a, p, guides, { ...given, execution }), mean(expected));
          }
        }
        assertValue(gist(a, p, pairs), mean(byLoop(a, p, pairs, {})), 'by default');
      }
    });
  });

  it('never lets an anchor meet itself, also where its positive is its duplicate', () => {
    scope(() => {
      const a = torch.eye(3, { dtype: 'float64' });
      const guides = { anchors: a, positives: a };
      // Orthogonal samples: each anchor meets two positives and two anchors, each positive two others, all of score 0.
      assertValue(gist(a, a, guides, { temperature: 1 }), Math.log(1 + 6 * Math.exp(-1)));
    });
  });

  it('is 0 where the guide leaves no negatives', () => {
    scope(() => {
      const [a, p] = [random([4, 3]), random([4, 3])];
      const alike = torch.ones([4, 2], { dtype: 'float64' });
      assertValue(gist(a, p, { anchors: alike, positives: alike }, { margin: 0.1 }), 0);
    });
  });

  it('refuses what does not fit', () => {
    const [a, p] = [random([4, 3]), random([4, 3])];
    const guides = { anchors: random([4, 2]), positives: random([4, 2]) };
    assertRefuses(() => gist(a, random([3, 3]), guides), /gist: positives: expected shape \[4, 3\]/);
    assertRefuses(() => gist(a, p, { ...guides, positives: random([4, 5]) }), /gist: guides.positives: expected shape/);
    assertRefuses(() => gist(a, p, guides, { negatives: p }), /give both negatives and guides.negatives, or neither/);
    assertRefuses(
      () => gist(a, p, guides, { marginStrategy: 'both' as never }),
      /marginStrategy must be 'absolute' or/,
    );
    assertRefuses(() => gist(a, p, guides, { temperature: 0 }), /gist: temperature must be/);
    assertRefuses(() => gist(a, p, guides, { margin: NaN }), /gist: margin must be a number/);
  });
});
