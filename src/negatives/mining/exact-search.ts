/** Exact search for the most alike keys, a tile of scores at a time. */
import type { ScoreSimilarity } from '../../contrast/contrast';
import { functional, topScores, type TopScores } from '../../nn';
import { noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';

/** Keys in parts, each with the row of its first. */
export interface KeyPart {
  start: number;
  /** [K, D] */
  embeddings: Tensor;
  /** int64 [K] */
  labels?: Tensor;
  /** int64 [K] */
  ids?: Tensor;
}

/** Which keys a query may not have, besides those of its id. All of tensors that are [Q] or [Q, P]. */
export interface SearchLimits {
  /** int64 [Q]: keys of this label. */
  labels?: Tensor;
  /** int64 [Q]: keys of this id. */
  ids?: Tensor;
  /** int64 [Q, P]: these rows, −1 for none. */
  rows?: Tensor;
  /** [Q]: keys with a higher score. */
  most?: Tensor;
  /** Keys with a score outside. */
  range?: readonly [least: number, most: number];
}

/** Scores that are held at once. */
const AT_ONCE = 1 << 22;
/** Keys of a tile. */
const WIDTH = 1 << 16;

/**
 * The `count` highest scores of each query among keys that come in parts, and where they are, within limits. The parts are gone through
 * once.
 */
export function searchParts(
  queries: Tensor,
  parts: Iterable<KeyPart>,
  count: number,
  similarity: ScoreSimilarity,
  limits: SearchLimits = {},
): TopScores {
  if (limits.rows !== undefined) return scan(queries, parts, count, similarity, limits);
  const { labels, ids, most, range } = limits;
  return noGrad(() =>
    scope(() => {
      const everywhere = (x: number): Tensor => torch.full([queries.sizeOf(0)], x, { device: queries.device });
      const highest = range && everywhere(range[1]);
      const atMost = most === undefined ? highest : highest === undefined ? most : most.minimum(highest);
      const within = { ...(atMost && { atMost }), ...(range && { atLeast: everywhere(range[0]) }) };
      let best: TopScores | undefined;
      for (const { start, embeddings, labels: keyLabels, ids: keyIds } of parts) {
        if (embeddings.sizeOf(0) === 0) continue;
        const before = best;
        best = scope(() => {
          const { scores, indices } = topScores(queries, embeddings, {
            count,
            similarity,
            ...within,
            ...(labels && keyLabels && { queryLabels: labels, keyLabels }),
            ...(ids && keyIds && { queryIds: ids, keyIds }),
          });
          return merged(before, scores, torch.where(indices.ge(0), indices.add(start), indices), count);
        });
      }
      return best ?? nothing(queries, count);
    }),
  );
}

/** Scores of queries with keys one by one: [Q, P] of [Q, D] and [Q, P, D]. */
export function ownScores(queries: Tensor, own: Tensor, similarity: ScoreSimilarity): Tensor {
  return withoutAutocast(queries, () =>
    noGrad(() =>
      scope(() => {
        const [q, k] = together(queries, own).map((x) => (similarity === 'cosine' ? functional.normalize(x) : x));
        const row = q!.unsqueeze(1);
        return similarity === 'euclidean' ? row.sub(k!).square_().sum([2]).neg_() : row.mul(k!).sum([2]);
      }),
    ),
  );
}

function scan(
  queries: Tensor,
  parts: Iterable<KeyPart>,
  count: number,
  similarity: ScoreSimilarity,
  limits: SearchLimits,
): TopScores {
  return withoutAutocast(queries, () =>
    noGrad(() =>
      scope(() => {
        let best: TopScores | undefined;
        for (const part of parts) {
          const keys = part.embeddings.sizeOf(0);
          for (let from = 0; from < keys; from += WIDTH) {
            const width = Math.min(WIDTH, keys - from);
            const cut = (x: Tensor | undefined): Tensor | undefined => x?.narrow(0, from, width);
            const tile = {
              start: part.start + from,
              embeddings: cut(part.embeddings)!,
              labels: cut(part.labels),
              ids: cut(part.ids),
            };
            const before = best;
            best = scope(() => {
              const { scores, indices } = scanTile(queries, tile, count, similarity, limits);
              return merged(before, scores, indices, count);
            });
          }
        }
        return best ?? nothing(queries, count);
      }),
    ),
  );
}

interface Tile {
  start: number;
  embeddings: Tensor;
  labels: Tensor | undefined;
  ids: Tensor | undefined;
}

function scanTile(
  queries: Tensor,
  tile: Tile,
  count: number,
  similarity: ScoreSimilarity,
  limits: SearchLimits,
): TopScores {
  const [q, k] = together(queries, tile.embeddings).map((x) =>
    similarity === 'cosine' ? functional.normalize(x) : x,
  ) as [Tensor, Tensor];
  const width = k.sizeOf(0);
  const transposed = k.t();
  const squares = similarity === 'euclidean' ? k.square().sum([1]) : undefined;
  const rows = Math.max(1, Math.floor(AT_ONCE / width));
  const found: TopScores[] = [];
  for (let from = 0; from < q.sizeOf(0); from += rows) {
    const some = Math.min(rows, q.sizeOf(0) - from);
    found.push(
      scope(() => {
        const part = q.narrow(0, from, some);
        const scores = part.matmul(transposed);
        if (squares !== undefined) {
          // −‖a − b‖²; rounding may make it positive for rows that are alike.
          scores
            .mul_(2)
            .sub_(squares)
            .sub_(part.square().sum([1], true))
            .clampMax_(0);
        }
        const out = excluded(scores, tile, limits, from);
        if (out !== undefined) scores.maskedFill_(out, -Infinity);
        const [values, at] = scores.topk(Math.min(count, width), 1);
        const none = at.newFull([], -1);
        return { scores: values, indices: torch.where(values.gt(-Infinity), at.add(tile.start), none) };
      }),
    );
  }
  return { scores: torch.cat(found.map((x) => x.scores)), indices: torch.cat(found.map((x) => x.indices)) };
}

/** Which scores of some queries with a tile do not count: bool [queries, keys], undefined if all do. */
function excluded(scores: Tensor, tile: Tile, limits: SearchLimits, from: number): Tensor | undefined {
  const [some, width] = [scores.sizeOf(0), scores.sizeOf(1)];
  const cut = (x: Tensor): Tensor => x.narrow(0, from, some);
  const masks: Tensor[] = [];
  if (limits.labels && tile.labels) masks.push(cut(limits.labels).unsqueeze(1).eq(tile.labels));
  if (limits.ids && tile.ids) masks.push(cut(limits.ids).unsqueeze(1).eq(tile.ids));
  if (limits.rows) {
    // What lies outside the tile goes to a column of its own, which is cut off.
    const at = cut(limits.rows).sub(tile.start);
    const inside = at.ge(0).logicalAnd(at.lt(width));
    const columns = torch.where(inside, at, at.newFull([], width));
    const marked = torch.zeros([some, width + 1], { dtype: 'bool', device: scores.device });
    masks.push(marked.scatter(1, columns, true).narrow(1, 0, width));
  }
  if (limits.most) masks.push(scores.gt(cut(limits.most).to({ dtype: scores.dtype }).unsqueeze(1)));
  if (limits.range) masks.push(scores.lt(limits.range[0]), scores.gt(limits.range[1]));
  return masks.length === 0 ? undefined : masks.reduce((a, b) => a.logicalOr(b));
}

function merged(before: TopScores | undefined, scores: Tensor, indices: Tensor, count: number): TopScores {
  const missing = count - scores.sizeOf(1);
  if (before === undefined && missing === 0) return { scores, indices };
  const rest = before ?? nothing(scores, missing, scores.dtype === 'float64' ? 'float64' : 'float32');
  const all = torch.cat([rest.scores, scores], 1);
  const [values, order] = all.topk(count, 1);
  return { scores: values, indices: torch.cat([rest.indices, indices], 1).gather(1, order) };
}

function nothing(
  like: Tensor,
  count: number,
  dtype: 'float32' | 'float64' = like.dtype === 'float64' ? 'float64' : 'float32',
): TopScores {
  const shape = [like.sizeOf(0), count];
  return {
    scores: torch.full(shape, -Infinity, { dtype, device: like.device }),
    indices: torch.full(shape, -1, { dtype: 'int64', device: like.device }),
  };
}

/** In one dtype, float32 at least: nothing is computed in a shorter one. */
function together(...all: Tensor[]): Tensor[] {
  const dtype = all.some((x) => x.dtype === 'float64') ? 'float64' : 'float32';
  return all.map((x) => x.detach().to({ dtype }));
}
