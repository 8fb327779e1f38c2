import assert from 'node:assert/strict';
import {
  contrast,
  decoupledLink,
  defineLink,
  explain,
  similarityMatrix,
  sigmoidLink,
  softmaxLink,
  softmaxOfSumLink,
  type ContrastOptions,
  type Link,
} from '../../src/contrast';
import {
  autocast,
  grad,
  gradcheck,
  InvalidArgumentError,
  memory,
  resetPeakMemory,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../../src/torch';
import { functional } from '../../src/nn';
import { assertClose } from '../support/close';

const random = (shape: number[], dtype: DType = 'float64'): Tensor => torch.randn(shape, { dtype });
const range = (end: number): Tensor => torch.arange(end, { dtype: 'int64' });
const pairsOf = (count: number): Tensor => range(count).divide(2, { roundingMode: 'floor' });

const hinge: Link = {
  name: 'hinge',
  needs: { own: { kind: 'sum', over: 'positives' }, count: { kind: 'count', over: 'positives' } },
  loss: ({ own, count }, { more }) =>
    more({ all: { kind: 'hinge', over: 'negatives', offset: own!.div(count!).sub(0.2) } }).all,
};
const links = [softmaxLink, softmaxOfSumLink, decoupledLink, sigmoidLink, hinge];

/** The same in both executions: the loss and all gradients. */
function assertAgree(options: ContrastOptions, learning: Tensor[], tolerance = 1e-10): Tensor {
  const run = (execution: 'dense' | 'tiled'): Tensor[] => {
    const loss = contrast({ ...options, execution });
    return [loss.detach(), ...grad(loss.sum(), learning).map((slope) => slope!)];
  };
  const [dense, tiled] = [run('dense'), run('tiled')];
  dense.forEach((expected, i) => {
    const name = `${String(options.link?.name)}, ${String(i)}`;
    assertClose(tiled[i]!, expected, { atol: tolerance, rtol: tolerance }, name);
  });
  return dense[0]!;
}

describe('contrast', () => {
  for (const link of links) {
    it(`agrees between dense and tiled: ${link.name}`, () => {
      scope(() => {
        for (const similarity of ['cosine', 'dot', 'euclidean'] as const) {
          for (const symmetric of [false, true]) {
            const [anchors, embeddings] = [random([37, 5]).requiresGrad_(), random([37, 5]).requiresGrad_()];
            const temperature = torch.tensor(0.2, { dtype: 'float64' }).requiresGrad_();
            const bias = torch.tensor(-0.5, { dtype: 'float64' }).requiresGrad_();
            const labels = pairsOf(37);
            const options = {
              anchors,
              candidates: { embeddings, labels },
              labels,
              link,
              similarity,
              symmetric,
              temperature,
              bias,
              margin: 0.1,
            };
            assertAgree(options, [anchors, embeddings, temperature, bias]);
          }
        }
      });
    });

    it(`passes the finite-difference check: ${link.name}`, () => {
      scope(() => {
        const labels = pairsOf(5);
        for (const execution of ['dense', 'tiled'] as const) {
          gradcheck(
            (anchors, embeddings, temperature) =>
              contrast({
                anchors: anchors!,
                candidates: { embeddings: embeddings!, labels },
                labels,
                link,
                temperature: temperature!,
                execution,
              }),
            [
              random([5, 3]).requiresGrad_(),
              random([5, 3]).requiresGrad_(),
              torch.rand([5], { dtype: 'float64' }).add(0.5).requiresGrad_(),
            ],
          );
        }
      });
    });

    it(`gives 0, and gradients that are numbers, where nothing counts: ${link.name}`, () => {
      scope(() => {
        for (const execution of ['dense', 'tiled'] as const) {
          const [anchors, embeddings] = [random([4, 3]).requiresGrad_(), random([4, 3]).requiresGrad_()];
          // Anchor 0 has no positive, anchor 1 no negative, anchor 2 no pair at all; anchor 3 has both.
          const labels = torch.tensor([9n, 1n, 2n, 3n]);
          const ids = torch.tensor([-1n, -2n, -3n, -4n]);
          const candidates = [
            { embeddings, labels: torch.tensor([3n, 1n, 1n, 1n]), ids: torch.tensor([-3n, -3n, -3n, -3n]) },
          ];
          const losses = contrast({ anchors, candidates, labels, ids, link, reduction: 'none', execution });
          assert.equal(losses.at(2).itemSync(), 0);
          for (const slope of grad(losses.sum(), [anchors, embeddings]))
            assert.equal(slope!.isfinite().all().itemSync(), 1);
          const mean = contrast({ anchors, candidates, labels, ids, link, execution });
          assert.equal(Number.isFinite(mean.itemSync()), true);
        }
      });
    });
  }

  it('is InfoNCE with one positive and the others as negatives: the cross-entropy of the scores', () => {
    scope(() => {
      const [a, b] = [random([33, 8]), random([33, 8])];
      const labels = range(33);
      for (const temperature of [0.005, 0.07, 1]) {
        const unit = (x: Tensor): Tensor => x.div(x.norm({ p: 2, dim: [1], keepdim: true } as never));
        const scores = unit(a).matmul(unit(b).t()).div(temperature);
        const expected = torch.crossEntropyLoss(scores, labels);
        for (const execution of ['dense', 'tiled'] as const) {
          const options = { anchors: a, candidates: { embeddings: b, labels }, labels, temperature, execution };
          assertClose(contrast(options), expected, { atol: 1e-12, rtol: 1e-12 });
          const both = expected.add(torch.crossEntropyLoss(scores.t(), labels)).div(2);
          assertClose(contrast({ ...options, symmetric: true }), both, { atol: 1e-12, rtol: 1e-12 });
        }
      }
    });
  });

  it('takes several sets of candidates as one list of them', () => {
    scope(() => {
      const anchors = random([6, 4]).requiresGrad_();
      const [first, second] = [random([6, 4]).requiresGrad_(), random([9, 4]).requiresGrad_()];
      const [labels, other] = [range(6), range(9).remainder(6) as Tensor];
      const weights = random([9]);
      for (const link of links) {
        const apart = [
          { embeddings: first, labels },
          { embeddings: second, labels: other, logWeights: weights },
        ];
        const together = {
          embeddings: torch.cat([first, second]),
          labels: torch.cat([labels, other]),
          logWeights: torch.cat([torch.zeros([6], { dtype: 'float64' }), weights]),
        };
        const one = assertAgree({ anchors, candidates: apart, labels, link }, [anchors, first, second]);
        const whole = assertAgree({ anchors, candidates: together, labels, link }, [anchors, first, second]);
        assertClose(one, whole, { atol: 1e-12 }, link.name);
      }
    });
  });

  it("takes anchors' own positives and negatives beside or instead of shared ones", () => {
    scope(() => {
      const anchors = random([4, 3]).requiresGrad_();
      const [positives, negatives] = [random([4, 2, 3]).requiresGrad_(), random([4, 5, 3]).requiresGrad_()];
      for (const link of links) {
        const losses = contrast({ anchors, positives, negatives, link, reduction: 'none' });
        for (let i = 0; i < 4; i++) {
          const alone = contrast({
            anchors: anchors.at([i]),
            candidates: [
              { embeddings: positives.at(i), labels: torch.tensor([0n, 0n]) },
              { embeddings: negatives.at(i), labels: torch.tensor([1n, 1n, 1n, 1n, 1n]) },
            ],
            labels: torch.tensor([0n]),
            link,
          });
          assertClose(losses.at(i), alone, { atol: 1e-12 }, link.name);
        }
        const queue = random([7, 3]);
        assertAgree({ anchors, positives, negatives, candidates: { embeddings: queue }, link }, [
          anchors,
          positives,
          negatives,
        ]);
      }
    });
  });

  it("looks at each anchor's hardest negatives only, of all candidates together", () => {
    scope(() => {
      const [count, further] = [9, 14];
      const anchors = random([count, 4]).requiresGrad_();
      const [paired, queue] = [random([count, 4]).requiresGrad_(), random([further, 4]).requiresGrad_()];
      const candidates = [{ embeddings: paired, labels: range(count) }, { embeddings: queue }];
      const scores = similarityMatrix(anchors, torch.cat([paired, queue]))
        .detach()
        .div(0.2)
        .toArraySync() as number[][];
      for (const hardest of [1, 3, 1000]) {
        const found = assertAgree(
          { anchors, candidates, labels: range(count), temperature: 0.2, hardest, reduction: 'none' },
          [anchors, paired, queue],
        );
        const expected = scores.map((row, i) => {
          const negatives = row.filter((_, j) => j !== i).sort((a, b) => b - a);
          const kept = negatives.slice(0, hardest).reduce((sum, score) => sum + Math.exp(score - row[i]!), 0);
          return Math.log(1 + kept);
        });
        assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-12 });
      }
    });
  });

  it('takes the hardest negatives of both directions, of every link, and of own negatives', () => {
    scope(() => {
      const anchors = random([150, 6]).requiresGrad_();
      const embeddings = random([150, 6]).requiresGrad_();
      const labels = pairsOf(150);
      for (const link of links) {
        const options = { anchors, candidates: { embeddings, labels }, labels, link, hardest: 5 };
        const both = assertAgree({ ...options, symmetric: true }, [anchors, embeddings]);
        const there = contrast(options);
        const back = contrast({ ...options, anchors: embeddings, candidates: { embeddings: anchors, labels } });
        assertClose(both, there.add(back).div(2).detach(), { atol: 1e-12 }, link.name);
        assert.notEqual(there.itemSync(), contrast({ ...options, hardest: undefined }).itemSync());
      }
      const own = { anchors, positives: embeddings, temperature: 0.5, reduction: 'none' as const };
      const negatives = random([150, 7, 6]);
      const scores = functional.normalize(negatives).matmul(functional.normalize(anchors).unsqueeze(2)).squeeze(2);
      const [, places] = scores.topk(2, 1);
      const taken = negatives.gather(1, places.unsqueeze(2).expand([150, 2, 6]));
      const found = contrast({ ...own, negatives, hardest: 2 }).detach();
      assertClose(found, contrast({ ...own, negatives: taken }).detach(), { atol: 1e-12 });
    });
  });

  it('tells candidates without labels or ids, or without a guide that agrees, from the others when it takes them together', () => {
    scope(() => {
      const anchors = random([5, 3]);
      const [first, second] = [random([5, 3]), random([8, 3])];
      const [labels, ids] = [range(5), range(5).add(40)];
      const [guides, limits] = [random([5, 2]), random([5])];
      const sets = [
        { embeddings: first, labels, guides: random([5, 2]) },
        { embeddings: second, ids: range(8).add(38), guides: random([8, 2]) },
      ];
      // With room for all, taking them together changes nothing.
      const options = {
        anchors,
        candidates: sets,
        labels,
        ids,
        guides,
        guideLimits: limits,
        reduction: 'none' as const,
      };
      assertClose(contrast({ ...options, hardest: 13 }), contrast(options), { atol: 1e-12 });
    });
  });

  it('leaves out negatives that a guide finds too alike', () => {
    scope(() => {
      const anchors = random([3, 4]);
      const embeddings = random([3, 4]);
      const labels = range(3);
      const guides = torch.tensor(
        [
          [1, 0],
          [0.9, 0.1],
          [0, 1],
        ],
        { dtype: 'float64' },
      );
      const guided = { anchors, labels, guides, guideLimits: torch.tensor([0.5, 0.5, 0.5], { dtype: 'float64' }) };
      const found = contrast({ ...guided, candidates: { embeddings, labels, guides }, reduction: 'none' });
      // The first two are alike by the guide: for each the other does not count.
      const alone = contrast({
        anchors: anchors.at([0]),
        positives: embeddings.at([0]),
        negatives: embeddings.at([[2]]),
        reduction: 'none',
      });
      assertClose(found.at([0]), alone, { atol: 1e-12 });
      const learning = random([3, 4]).requiresGrad_();
      assertAgree({ ...guided, anchors: learning, candidates: { embeddings, labels, guides } }, [learning]);
    });
  });

  it('computes in float32 under autocast and for bfloat16 embeddings', () => {
    scope(() => {
      const [a, b] = [random([64, 16], 'bfloat16').requiresGrad_(), random([64, 16], 'bfloat16').requiresGrad_()];
      const labels = range(64);
      const options = (anchors: Tensor, embeddings: Tensor): ContrastOptions => ({
        anchors,
        candidates: { embeddings, labels },
        labels,
        temperature: 0.05,
      });
      const wide = contrast({ ...options(a.detach().to('float64'), b.detach().to('float64')) });
      for (const execution of ['dense', 'tiled'] as const) {
        const loss = autocast({ device: 'cpu' }, () => contrast({ ...options(a, b), execution }));
        assert.equal(loss.dtype, 'float32');
        // Products of bfloat16: each element is rounded once more, to 9 bits.
        assertClose(loss.to('float64'), wide, { rtol: 2e-3 });
        const [slope] = grad(loss, [a]);
        assert.equal(slope!.dtype, 'bfloat16');
      }
    });
  });

  it('holds no matrix of scores when it goes tile by tile', () => {
    scope(() => {
      const n = 6000;
      const [a, b] = [random([n, 16], 'float32').requiresGrad_(), random([n, 16], 'float32').requiresGrad_()];
      const labels = range(n);
      const options = { anchors: a, candidates: { embeddings: b, labels }, labels, symmetric: true };
      resetPeakMemory();
      const before = memory().cpuBytes;
      const loss = contrast(options);
      grad(loss, [a, b]);
      // The matrix would be 144 MB; a tile, its parts and the embeddings' gradients are what is left.
      assert.ok(memory().peakCpuBytes - before < 20e6);
      assert.equal(explain(options).execution, 'tiled');
      assert.match(explain(options).reason, /^36000000 pairs are \d+ or more/);
      assert.equal(explain({ ...options, execution: 'dense' }).reason, 'it was asked for');
      assert.equal(explain({ anchors: a.at([0, 1]), candidates: { embeddings: b.at([0, 1]) } }).execution, 'dense');
    });
  });

  it('lets a user write an objective in a few lines', () => {
    scope(() => {
      const triplet = defineLink({
        name: 'hardest negative',
        needs: {
          hardest: { kind: 'logSumExp', over: 'negatives', power: 1000 },
          own: { kind: 'sum', over: 'positives' },
        },
        loss: ({ hardest, own }) => hardest.div(1000).sub(own).add(0.5).relu(),
      });
      const [anchors, embeddings] = [random([5, 3]), random([9, 3])];
      const options = { anchors, positives: anchors, candidates: { embeddings }, link: triplet, temperature: 1 };
      const expected = similarityMatrix(anchors, embeddings).amax([1]).sub(0.5).relu();
      assertClose(contrast({ ...options, reduction: 'none' }), expected, { atol: 1e-2 });
    });
  });

  it('refuses what does not fit, and says what would', () => {
    scope(() => {
      const anchors = random([4, 3]);
      const candidates = { embeddings: random([5, 3]), labels: range(5) };
      const refuses = (options: Partial<ContrastOptions>, message: RegExp): void => {
        assert.throws(
          () => contrast({ anchors, candidates, labels: range(4), ...options }),
          (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message),
          String(message),
        );
      };
      refuses({ anchors: random([4, 2]) }, /candidates: expected shape \[N, 2\], found \[5, 3\]/);
      refuses({ labels: range(3) }, /anchors' labels: expected shape \[4\], found \[3\]/);
      refuses({ labels: random([4]) }, /labels must be int64, found float64/);
      refuses(
        { candidates: { embeddings: random([5, 3]) } },
        /the link 'softmax' needs positives: give the anchors and candidates labels/,
      );
      refuses({ temperature: 0 }, /temperature must be a positive number/);
      refuses({ temperature: random([3]) }, /one element or one an anchor, found a tensor of shape \[3\]/);
      refuses({ positives: random([3, 3]) }, /positives: expected shape \[4, 3\] or \[4, P, 3\], found \[3, 3\]/);
      refuses({ negatives: random([4, 3]) }, /negatives: expected shape \[4, K, 3\]/);
      refuses({ symmetric: true, positives: random([4, 3]) }, /both directions need one set of candidates/);
      refuses({ symmetric: true, reduction: 'none' }, /both directions need as many anchors as candidates/);
      refuses({ guides: random([4, 2]) }, /guides need guideLimits/);
      refuses({ bias: random([2]) }, /the bias has one element/);
      refuses({ hardest: 0 }, /contrast: hardest must be an integer of at least 1/);
      refuses({ hardest: 2, negatives: random([4, 2, 3]) }, /among candidates, or among own negatives, not among both/);
      refuses({ hardest: 2, candidates: { ...candidates, logWeights: random([5]) } }, /cannot have logWeights/);
      const all = defineLink({
        name: 'everything',
        needs: { sum: { kind: 'sum', over: 'all' } },
        loss: ({ sum }) => sum,
        withoutPositives: true,
      });
      refuses({ hardest: 2, link: all }, /the link 'everything' looks at all pairs at once/);
    });
  });
});
