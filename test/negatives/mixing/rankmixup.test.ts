import { mixupNdcg, mixupRankingLoss } from '../../../src/negatives/mixing';
import { gradcheck, scope, torch } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertRefuses,
  assertValue,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
} from '../../contrast/objectives/plain';

const surest = (row: number[]): number => Math.max(...row.map((x) => Math.exp(x) / sumExp(row)));

describe('mixupRankingLoss', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [1, 2, 7]) {
        const [raw, mixed] = [random([count, 4]), random([count, 4])];
        for (const [confidence, margin, of] of [
          ['logit', 2, (row: number[]) => Math.max(...row)],
          ['probability', 0.1, surest],
        ] as const) {
          const losses = rowsOf(raw).map((row, i) => Math.max(0, of(rowsOf(mixed)[i]!) - of(row) + margin));
          assertValue(mixupRankingLoss(raw, mixed, { confidence, margin }), mean(losses));
          const valid = torch.tensor(losses.map((_, i) => i % 2 === 0));
          const left = losses.map((x, i) => (i % 2 === 0 ? x : 0));
          const found = mixupRankingLoss(raw, mixed, { confidence, margin, valid, reduction: 'none' });
          assertClose(found, torch.tensor(left, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
        }
      }
    });
  });

  it('has right gradients and refuses what does not fit', () => {
    gradcheck((raw, mixed) => mixupRankingLoss(raw!, mixed!), [learning([3, 4]), learning([3, 4])]);
    const raw = random([3, 4]);
    assertRefuses(() => mixupRankingLoss(raw, random([2, 4])), /mixed: expected shape \[3, 4\]/);
    assertRefuses(() => mixupRankingLoss(raw, raw, { valid: torch.ones([3]) }), /valid must be bool \[3\]/);
  });
});

describe('mixupNdcg', () => {
  it('equals a loop, ties included', () => {
    scope(() => {
      for (const [count, mixes] of [
        [1, 1],
        [2, 3],
        [5, 4],
      ] as const) {
        const [raw, mixed] = [random([count, 3]), random([mixes, count, 3])];
        const relevance = torch.rand([mixes, count], { dtype: 'float64' }).mul(3).floor().mul(0.25).add(0.5);
        const [shares, logits] = [rowsOf(relevance), rowsOf(mixed.flatten(0, 1))];
        const losses = rowsOf(raw).map((row, i) => {
          const order = shares.map((_, s) => s).sort((a, b) => shares[b]![i]! - shares[a]![i]! || a - b);
          const gain = (values: number[]): number => total(values.map((x, r) => x / Math.log2(r + 2)));
          const found = gain([surest(row), ...order.map((s) => surest(logits[s * count + i]!))]);
          const ideal = gain([1, ...order.map((s) => shares[s]![i]!)]);
          return 1 - Math.min(found / ideal, ideal / found);
        });
        assertValue(mixupNdcg(raw, mixed, relevance), mean(losses));
        const each = mixupNdcg(raw, mixed, relevance, { reduction: 'none' });
        assertClose(each, torch.tensor(losses, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
      }
    });
  });

  it('has right gradients and refuses what does not fit', () => {
    const relevance = torch.tensor([[0.9], [0.6]], { dtype: 'float64' });
    gradcheck((raw, mixed) => mixupNdcg(raw!, mixed!, relevance), [learning([1, 3]), learning([2, 1, 3])]);
    const raw = random([1, 3]);
    assertRefuses(() => mixupNdcg(raw, random([2, 2, 3]), relevance), /mixed: expected floating-point \[S, 1, 3\]/);
    assertRefuses(
      () => mixupNdcg(raw, random([2, 1, 3]), random([1, 1])),
      /relevance: expected floating-point \[S, 1\]/,
    );
  });
});
