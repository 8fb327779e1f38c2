/** Exact search in a memory, a tile of scores at a time. */
import { functional } from '../nn';
import { dispose, noGrad, scope, torch, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';

/** Embeddings [K, D] in parts, none larger than the first, each with the row of its first. Who takes a part disposes of it. */
export type Parts = Iterable<{ start: number; embeddings: Tensor }>;

/** What of a tile of queries must not be found in a part: bool [queries, rows], or null for nothing. */
export type Excluded = (
  queries: { from: number; count: number },
  rows: { start: number; count: number },
) => Tensor | null;

/** How many rows a part has at most. */
export const PART = 65536;

/** Scores that are held at once. */
const CHUNK = 1 << 22;

/** In float32, or float64 if it is that already: nothing is computed in a shorter type. */
export function wide(x: Tensor): Tensor {
  return x.to({ dtype: x.dtype === 'float64' ? 'float64' : 'float32' });
}

/**
 * The k rows of highest cosine for each query, nearest first; of equal ones any. No gradients.
 *
 * @param parts the rows, gone through once
 * @returns cosines [N, k], −∞ where fewer than k are allowed, and rows int64 [N, k]
 */
export function nearestRows(
  queries: Tensor,
  parts: Parts,
  k: number,
  excluded: Excluded = () => null,
): { similarities: Tensor; rows: Tensor } {
  return withoutAutocast(queries, () =>
    noGrad(() =>
      scope(() => {
        const unit = functional.normalize(wide(queries));
        const count = unit.sizeOf(0);
        const best = new Map<number, [Tensor, Tensor]>();
        let tile = 0;
        for (const { start, embeddings } of parts) {
          const width = embeddings.sizeOf(0);
          const keys = scope(() => functional.normalize(embeddings.to({ dtype: unit.dtype })).t());
          dispose(embeddings);
          // The first part is the largest.
          tile ||= Math.max(1, Math.floor(CHUNK / width));
          for (let from = 0; from < count; from += tile) {
            const some = Math.min(tile, count - from);
            const before = best.get(from);
            best.set(
              from,
              scope((): [Tensor, Tensor] => {
                const scores = unit.narrow(0, from, some).matmul(keys);
                const out = excluded({ from, count: some }, { start, count: width });
                if (out !== null) scores.maskedFill_(out, -Infinity);
                const [values, at] = scores.topk(Math.min(k, width), 1);
                const rows = at.add(start);
                if (before === undefined) return [values, rows];
                const all = torch.cat([before[0], values], 1);
                const [merged, order] = all.topk(Math.min(k, all.sizeOf(1)), 1);
                return [merged, torch.cat([before[1], rows], 1).gather(1, order)];
              }),
            );
            if (before !== undefined) dispose(...before);
          }
          dispose(keys);
        }
        const found = [...best.values()];
        return { similarities: torch.cat(found.map(([x]) => x)), rows: torch.cat(found.map(([, x]) => x)) };
      }),
    ),
  );
}
