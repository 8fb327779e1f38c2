/** Exact search: which keys score highest with each query. */
import { InvalidArgumentError, noGrad, ops, scope, torch, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { positiveInteger } from './checks';
import * as functional from './functional';

/** What {@link topScores} takes beside queries and keys. */
export interface TopScoresOptions {
  /** k, how many keys of each query. */
  count: number;
  /** The dot product (default), the cosine, or minus the squared distance. */
  similarity?: 'dot' | 'cosine' | 'euclidean';
  /** int64 [Q] and [M]: a key with a query's label is not found for it. */
  queryLabels?: Tensor;
  keyLabels?: Tensor;
  /** int64 [Q] and [M]: the same once more, as for the query itself. */
  queryIds?: Tensor;
  keyIds?: Tensor;
  /** [Q]: keys with a lower score are not found. */
  atLeast?: Tensor;
  /** [Q]: keys with a higher score are not found. */
  atMost?: Tensor;
  /**
   * `'exact'` (default), or `'bfloat16'`: twice as many keys as wanted are looked for by products of bfloat16, and scored again exactly, so
   * that scores are exact and a key at the edge may be missed. It is about twice as quick where the processor has instructions for it, and
   * the same as `'exact'` elsewhere. Not with limits.
   */
  precision?: 'exact' | 'bfloat16';
}

/** What was found, the best first; on the CPU, of equal scores the earlier key first. */
export interface TopScores {
  /** [Q, k], −∞ where fewer than k keys were found. */
  scores: Tensor;
  /** int64 [Q, k], −1 where fewer were found. */
  indices: Tensor;
}

/** So many keys at a time are copied to another type, or scored on another device. */
const PART = 65536;
/** So many scores at a time are held on another device. */
const SCORES_AT_ONCE = 1 << 25;

/**
 * The k keys of highest score for each query, exactly, without the Q×M matrix of scores: products of small blocks, of which only what is above
 * a query's k-th best so far is looked at. Beside queries and keys it takes some 100 MB at most. Keys in float32 or float64 on the CPU are read as
 * they are; others, or on other devices, go part by part through LibTorch's operators.
 *
 * Computed in float32, float64 if an input is, also under autocast. No gradients. The same for any number of threads.
 *
 * @param queries [Q, D]
 * @param keys [M, D]
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit
 */
export function topScores(queries: Tensor, keys: Tensor, options: TopScoresOptions): TopScores {
  check(queries, keys, options);
  return withoutAutocast(queries, () =>
    noGrad(() =>
      scope(() => {
        const dtype = queries.dtype === 'float64' || keys.dtype === 'float64' ? 'float64' : 'float32';
        const { similarity = 'dot' } = options;
        const wide = queries.to({ dtype });
        const rows = similarity === 'cosine' ? functional.normalize(wide) : wide;
        const found =
          keys.device === 'cpu' && keys.dtype === dtype
            ? search(rows, keys, options)
            : byParts(rows, keys, options, keys.device === 'cpu' ? search : searchByBlocks);
        if (similarity !== 'euclidean') return found;
        // Rounding may make it positive for keys that are the query.
        return { ...found, scores: found.scores.sub(rows.square().sum([1], true)).clampMax(0) };
      }),
    ),
  );
}

type Search = (queries: Tensor, keys: Tensor, options: TopScoresOptions) => TopScores;

/** With our own operator. Scores of distances are still too high by the query's squared length. */
function search(queries: Tensor, keys: Tensor, options: TopScoresOptions): TopScores {
  const { count, similarity = 'dot', queryLabels, keyLabels, queryIds, keyIds, precision } = options;
  const { dtype } = queries;
  const lengths = similarity === 'dot' ? null : torch.linalgVectorNorm(keys, 2, [1]);
  const limit = (x: Tensor | undefined): Tensor | null => (x === undefined ? null : limitOf(queries, x, similarity));
  const [scores, indices] = ops.kontrast!.top_scores!(
    similarity === 'euclidean' ? queries.mul(2) : queries,
    keys,
    count,
    similarity === 'cosine' ? reciprocal(lengths!) : null,
    similarity === 'euclidean' ? lengths!.square().neg() : null,
    queryLabels ?? null,
    keyLabels ?? null,
    queryIds ?? null,
    keyIds ?? null,
    limit(options.atLeast),
    limit(options.atMost),
    precision === 'bfloat16' && dtype === 'float32' ? 2 * count : 0,
  ) as [Tensor, Tensor];
  return { scores, indices };
}

/** As {@link functional.normalize} divides. */
function reciprocal(lengths: Tensor): Tensor {
  return lengths.clampMin(1e-12).reciprocal();
}

/** The limit of scores that lack the query's squared length. */
function limitOf(queries: Tensor, limit: Tensor, similarity: TopScoresOptions['similarity']): Tensor {
  const wide = limit.to({ dtype: queries.dtype });
  return similarity === 'euclidean' ? wide.add(queries.square().sum([1])) : wide;
}

/** Part by part of the keys, each in the queries' type. */
function byParts(queries: Tensor, keys: Tensor, options: TopScoresOptions, searchPart: Search): TopScores {
  const { count } = options;
  let best: TopScores | undefined;
  for (let start = 0; start < keys.sizeOf(0); start += PART) {
    const size = Math.min(PART, keys.sizeOf(0) - start);
    const before = best;
    best = scope(() => {
      const part = (x: Tensor | undefined): Tensor | undefined => x?.narrow(0, start, size);
      const found = searchPart(queries, part(keys)!.to({ dtype: queries.dtype }), {
        ...options,
        keyLabels: part(options.keyLabels),
        keyIds: part(options.keyIds),
      });
      const indices = torch.where(found.indices.ge(0), found.indices.add(start), found.indices);
      if (before === undefined) return { scores: found.scores, indices };
      // What was found earlier stays in front of what scores the same.
      const [scores, order] = torch
        .cat([before.scores, found.scores], 1)
        .sort({ stable: true, dim: 1, descending: true });
      const places = torch.cat([before.indices, indices], 1).gather(1, order);
      return { scores: scores.narrow(1, 0, count).clone(), indices: places.narrow(1, 0, count).clone() };
    });
  }
  return best!;
}

/** @internal As {@link search} with LibTorch's operators, for other devices. */
export function searchByBlocks(queries: Tensor, keys: Tensor, options: TopScoresOptions): TopScores {
  const { count, similarity = 'dot' } = options;
  const width = keys.sizeOf(0);
  const columns = (similarity === 'cosine' ? functional.normalize(keys) : keys).t();
  const offsets = similarity === 'euclidean' ? keys.square().sum([1]).neg() : null;
  const rows = similarity === 'euclidean' ? queries.mul(2) : queries;
  const tile = Math.max(1, Math.floor(SCORES_AT_ONCE / width));
  const parts: TopScores[] = [];
  for (let start = 0; start < queries.sizeOf(0); start += tile) {
    const size = Math.min(tile, queries.sizeOf(0) - start);
    const part = (x: Tensor): Tensor => x.narrow(0, start, size);
    parts.push(
      scope(() => {
        let scores = part(rows).matmul(columns);
        if (offsets !== null) scores = scores.add(offsets);
        const never = (mask: Tensor): void => {
          scores = scores.maskedFill(mask, -Infinity);
        };
        const agree = (own: Tensor | undefined, other: Tensor | undefined): void => {
          if (own !== undefined) never(part(own).unsqueeze(1).eq(other!.unsqueeze(0)));
        };
        agree(options.queryLabels, options.keyLabels);
        agree(options.queryIds, options.keyIds);
        const limit = (x: Tensor): Tensor => limitOf(part(queries), part(x), similarity).unsqueeze(1);
        if (options.atLeast !== undefined) never(scores.lt(limit(options.atLeast)));
        if (options.atMost !== undefined) never(scores.gt(limit(options.atMost)));
        const kept = Math.min(count, width);
        const [best, places] = scores.topk(kept, 1);
        const missing = count - kept;
        const found = torch.where(best.eq(-Infinity), places.newFull([], -1), places);
        return {
          scores: torch.cat([best, best.newFull([size, missing], -Infinity)], 1),
          indices: torch.cat([found, found.newFull([size, missing], -1)], 1),
        };
      }),
    );
  }
  return { scores: torch.cat(parts.map((x) => x.scores)), indices: torch.cat(parts.map((x) => x.indices)) };
}

function check(queries: Tensor, keys: Tensor, options: TopScoresOptions): void {
  const refuse = (message: string): never => {
    throw new InvalidArgumentError(`topScores: ${message}`);
  };
  positiveInteger(options.count, 'topScores: count');
  for (const [name, matrix] of Object.entries({ queries, keys })) {
    if (matrix.ndim !== 2 || matrix.sizeOf(1) === 0 || !matrix.isFloatingPoint()) {
      refuse(`${name} must be a floating-point matrix, found ${matrix.dtype} of shape [${matrix.shape.join(', ')}]`);
    }
  }
  if (queries.sizeOf(1) !== keys.sizeOf(1)) {
    refuse(`queries have ${queries.sizeOf(1)} dimensions, keys ${keys.sizeOf(1)}`);
  }
  if (queries.sizeOf(0) === 0 || keys.sizeOf(0) === 0) refuse('there are no queries or no keys');
  const { queryLabels, keyLabels, queryIds, keyIds, atLeast, atMost } = options;
  const ofQueries = { queryLabels, queryIds, atLeast, atMost };
  const lengths = { ...ofQueries, keyLabels, keyIds };
  for (const [name, vector] of Object.entries(lengths)) {
    if (vector === undefined) continue;
    const expected = (name in ofQueries ? queries : keys).sizeOf(0);
    if (vector.ndim !== 1 || vector.sizeOf(0) !== expected) {
      refuse(`${name} must have the shape [${expected}], found [${vector.shape.join(', ')}]`);
    }
    if (!name.startsWith('at') && vector.dtype !== 'int64') refuse(`${name} must be int64, found ${vector.dtype}`);
  }
  for (const [name, tensor] of Object.entries({ keys, ...lengths })) {
    if (tensor !== undefined && tensor.device !== queries.device) {
      refuse(`queries are on ${queries.device}, ${name} on ${tensor.device}; move one`);
    }
  }
  if ((queryLabels === undefined) !== (keyLabels === undefined)) refuse('labels come for queries and keys');
  if ((queryIds === undefined) !== (keyIds === undefined)) refuse('ids come for queries and keys');
  if (options.precision === 'bfloat16' && (atLeast !== undefined || atMost !== undefined)) {
    refuse("limits need exact scores: leave precision 'bfloat16' out");
  }
}
