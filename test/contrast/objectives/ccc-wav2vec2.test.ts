import { cccWav2Vec2, type SpeechFrames } from '../../../src/contrast/objectives/ccc-wav2vec2';
import { gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertFinite, assertRefuses, assertValue, cosine, ids, learning, mean, random, rowsOf, sumExp } from './plain';

const frames = (
  count: number,
  drawn: number,
  contexts = random([count, 3]),
  targets = random([count, 3]),
): SpeechFrames => ({
  contexts,
  targets,
  negatives: torch.randint(count, [count, drawn], { dtype: 'int64' }),
  clusters: ids(Array.from({ length: count }, (_, i) => i % 3)),
});
const term = (contexts: Tensor, { targets, negatives, clusters }: SpeechFrames, scale: number, t: number): number => {
  const [c, q, n] = [rowsOf(contexts), rowsOf(targets), rowsOf(negatives)];
  const group = clusters === undefined ? c.map((_, i) => i) : rowsOf(clusters.unsqueeze(1)).map(([k]) => k!);
  return mean(
    c.map((x, i) => {
      const own = cosine(x, q[i]!) / t;
      const scores = n[i]!.filter((j) => j !== i).map(
        (j) => (cosine(x, q[j]!) / t) * (group[i] === group[j] ? scale : 1),
      );
      return Math.log(Math.exp(own) + sumExp(scores)) - own;
    }),
  );
};

describe('cccWav2Vec2', () => {
  it('is the loss of each side and across, with scores scaled down within a cluster', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 17]) {
        const [a, b] = [frames(count, 6), frames(count, 6)];
        for (const [x, y] of [
          [a, b],
          [
            { ...a, clusters: undefined },
            { ...b, clusters: undefined },
          ],
        ] as const) {
          const expected =
            term(x.contexts, x, 0.3, 0.2) + 0.5 * term(x.contexts, y, 0.3, 0.2) + 2 * term(y.contexts, x, 0.3, 0.2);
          assertValue(cccWav2Vec2(x, y, { temperature: 0.2, weights: [1, 0.5, 2] }), expected);
        }
      }
      const one = frames(1, 4);
      assertValue(cccWav2Vec2(one, one), 0);
    });
  });

  it('has right gradients, and is finite at extreme temperatures', () => {
    scope(() => {
      const [a, b] = [frames(4, 3), frames(4, 3)];
      gradcheck(
        (c, q, d, r) =>
          cccWav2Vec2({ ...a, contexts: c!, targets: q! }, { ...b, contexts: d!, targets: r! }, { temperature: 0.5 }),
        [learning([4, 3]), learning([4, 3]), learning([4, 3]), learning([4, 3])],
      );
    });
    assertFinite(
      (temperature, c, q) => cccWav2Vec2(frames(5, 4, c, q), frames(5, 4, q, c), { temperature }),
      [
        [5, 3],
        [5, 3],
      ],
    );
  });

  it('refuses negatives that are no positions', () => {
    const good = frames(3, 2);
    assertRefuses(
      () => cccWav2Vec2({ ...good, negatives: random([3, 2]) }, good),
      /original.negatives: expected int64/,
    );
    assertRefuses(() => cccWav2Vec2(good, frames(4, 2)), /augmented.contexts: expected shape \[3, 3\]/);
    assertRefuses(() => cccWav2Vec2(good, good, { scale: 2 }), /scale must be a number at least 0 and at most 1/);
  });
});
