import type { ScoreSimilarity } from '../../contrast/contrast';
import { MappedBank } from '../../memory/mapped-bank';
import type { MemoryCandidates } from '../../memory/ring-buffer';
import { integerFrom, positiveInteger } from '../../nn/checks';
import type { TopScores } from '../../nn';
import { dispose, Generator, InvalidArgumentError, isTensor, noGrad, scope, torch, type Tensor } from '../../torch';
import { Randomised } from '../randomised';
import { ownScores, searchParts, type KeyPart, type SearchLimits } from './exact-search';
import { checkMatrix, checkTensor } from './miner';
import { shares } from './pairs-and-triplets';

/**
 * Where negatives are looked for: a batch [K, D]; what a queue or a bank gives (`queue.candidates()`), with labels and ids; a bank in a file; or batches
 * one after the other, which need not be in memory together, whose rows are counted through.
 */
export type KeySource = Tensor | MemoryCandidates | MappedBank | Iterable<MemoryCandidates>;

/** Which negatives {@link mineHardNegatives} gives. */
export interface NegativeLimits {
  /** K: how many a query. Default: 1. */
  count?: number;
  /** Default: `'cosine'`. */
  similarity?: ScoreSimilarity;
  /** m: a negative's score is at most that of the positive minus m. Default: no limit. */
  absoluteMargin?: number;
  /** r: a negative's score is at most (1 − r) times that of the positive, or (1 + r) times if that is below 0. Default: no limit. */
  relativeMargin?: number;
  /** The least and the highest score of a negative, both included. Default: any. */
  scores?: readonly [least: number, most: number];
  /** Ranks that are looked at, from 0, the second not included, counted among what all other conditions leave. Default: all, for random ones [0, 100]. */
  ranks?: readonly [from: number, to: number];
  /** The hardest of what is left, or any, each equally likely. Default: `'top'`. */
  choose?: 'top' | 'random';
}

/** What {@link mineHardNegatives} mines for and in. */
export interface HardNegativeInput {
  /** [Q, D], of any floating-point dtype. The search is done on their device. */
  queries: Tensor;
  /** Where negatives are looked for. */
  keys: KeySource;
  /** int64 [Q]: keys of a query's own label are positives, and no negatives. */
  labels?: Tensor;
  /** int64 [Q]: keys of a query's own id are no negatives. */
  ids?: Tensor;
  /** int64 [Q] or [Q, P]: rows of the keys that are a query's positives, −1 for none; no negatives. */
  positives?: Tensor;
  /** [Q, D] or [Q, P, D]: the positives themselves, for margins. Default: the rows `positives` of the keys. */
  positiveEmbeddings?: Tensor;
  /** [Q]: the scores that margins go by, if known. */
  positiveScores?: Tensor;
}

/** What {@link mineHardNegatives} takes. */
export interface MineHardNegativesOptions extends HardNegativeInput, NegativeLimits {
  /** For random ones. Default: a new one of seed 0, for each call. */
  generator?: Generator;
}

/** The negatives of each query, best first. */
export interface HardNegatives {
  /** Rows of the keys, int64 [Q, K]; −1 where there is none. */
  indices: Tensor;
  /** Their scores, [Q, K]; −∞ where there is none. */
  scores: Tensor;
  /** How many a query has, int64 [Q]. */
  found: Tensor;
}

/** How many ranks are looked at for random negatives, unless it is said. */
const RANDOM_RANKS = 100;

/**
 * The hardest keys of each query that are none of its positives, exactly:
 *
 *     1. keys of the query's id or label, and its positives, are left out
 *     2. so are scores above positive − m, above positive − r·|positive|, or out of range;
 *        of several positives the lowest score counts
 *     3. of the rest, ranks `from` to `to` are looked at
 *     4. of these the `count` hardest are taken, or as many drawn without repetition
 *
 * These are the options of Sentence Transformers' miner and, by margin, those of NV-Retriever (Moreira et al. 2024, "NV-Retriever: Improving text
 * embedding models with effective hard-negative mining"; its best setting is a relative margin of 0.05, from memory). The matrix of scores is never
 * held: memory is that of a tile. Draws are on the CPU, so that they are the same on every device. No gradients flow.
 *
 * For training against the negatives that are still mistaken: {@link negativeRows} gives them to `contrast`, {@link minedRows} to a
 * loader, {@link minedWeights} to a loss.
 *
 * @throws InvalidArgumentError naming what does not fit
 */
export function mineHardNegatives(options: MineHardNegativesOptions): HardNegatives {
  return mine(options, 'mineHardNegatives');
}

/** What {@link HardNegativeMiner} is made from. */
export interface HardNegativeMinerOptions extends NegativeLimits {
  /** For random ones. Default: 0. */
  seed?: number | bigint | Generator;
}

/** {@link mineHardNegatives} with fixed options, and random numbers that are part of its state. */
export class HardNegativeMiner extends Randomised {
  readonly #options: NegativeLimits;

  constructor(options: HardNegativeMinerOptions = {}) {
    const { seed = 0, ...rest } = options;
    super('HardNegativeMiner', seed);
    checkOptions(rest, 'HardNegativeMiner');
    this.#options = rest;
  }

  /** @throws InvalidArgumentError naming what does not fit, before anything is drawn */
  mine(input: HardNegativeInput): HardNegatives {
    return mine({ ...this.#options, ...input, generator: this.generator }, 'HardNegativeMiner');
  }
}

/** What {@link negativeRows} takes besides. */
export interface NegativeRowsOptions {
  /**
   * What stands where a query has too few: its own negatives again, in turn, so that they count for more in a softmax; or minus the query,
   * of cosine −1, whose part in a softmax is e^(−(1 + s)/τ) of that of a negative of score s. A query without any gets minus itself in either case.
   * Default: `'repeat'`.
   */
  missing?: 'repeat' | 'opposite';
}

/** Own negatives for `contrast`. */
export interface NegativeRows {
  /** [Q, K, D], without gradients. */
  negatives: Tensor;
  /** bool [Q, K]: which were mined. */
  isMined: Tensor;
}

/**
 * The mined keys themselves, as own negatives of `contrast`: `contrast({ anchors: queries, positives, negatives })`.
 *
 * @param queries [Q, D]: what was mined for; only needed where a query has too few
 * @param keys what was mined in, in the same state; not batches one after the other
 * @throws InvalidArgumentError naming what does not fit
 */
export function negativeRows(
  mined: HardNegatives,
  queries: Tensor,
  keys: KeySource,
  options: NegativeRowsOptions = {},
): NegativeRows {
  const what = 'negativeRows';
  const { missing = 'repeat' } = options;
  if (!['repeat', 'opposite'].includes(missing)) {
    throw new InvalidArgumentError(`${what}: missing must be 'repeat' or 'opposite', found '${missing}'`);
  }
  const { indices, found } = mined;
  if (queries.ndim !== 2 || queries.sizeOf(0) !== indices.sizeOf(0)) {
    throw new InvalidArgumentError(
      `${what}: queries must be [${indices.sizeOf(0)}, D], found [${queries.shape.join(', ')}]`,
    );
  }
  return noGrad(() =>
    scope(() => {
      const isMined = indices.ge(0);
      const places = torch.arange(indices.sizeOf(1), { dtype: 'int64', device: indices.device });
      const has = missing === 'repeat' ? found.gt(0).unsqueeze(1).expand(indices.shape) : isMined;
      const turn = places.remainder(found.clampMin(1).unsqueeze(1));
      const rows = (missing === 'repeat' ? indices.gather(1, turn) : indices).clampMin(0);
      const found3 = rowsOf(keys, rows.flatten(), what).unflatten(0, [...rows.shape]);
      const opposite = queries.detach().neg().to({ dtype: found3.dtype }).unsqueeze(1);
      return { negatives: torch.where(has.unsqueeze(2), found3, opposite), isMined };
    }),
  );
}

/** The rows that were mined for any query, each once, in ascending order: what a loader or a sampler takes as positions. */
export function minedRows({ indices }: HardNegatives): Int32Array {
  const rows = noGrad(() =>
    scope(() => {
      const [sorted] = indices.flatten().sort();
      return torch.uniqueConsecutive(sorted)[0].dataSync() as BigInt64Array;
    }),
  );
  return Int32Array.from(rows, Number).filter((row) => row >= 0);
}

/**
 * How often each key was mined, as weights: wᵢ = countᵢ / maxⱼ countⱼ, 1 for all where nothing was found. Their logarithm is what `contrast`
 * takes as `logWeights` of candidates: −∞ for a key that was never mined.
 *
 * @param size how many keys there are
 * @returns [size]
 */
export function minedWeights(
  { indices }: HardNegatives,
  size: number,
  { dtype = 'float32' }: { dtype?: 'float32' | 'float64' } = {},
): Tensor {
  return noGrad(() => scope(() => shares(indices.maskedSelect(indices.ge(0)), size, dtype)));
}

function mine(options: MineHardNegativesOptions, what: string): HardNegatives {
  const { queries, keys, count = 1, similarity = 'cosine', choose = 'top' } = options;
  const [from, to] = checkOptions(options, what);
  checkInput(options, what);
  const limits = limitsOf(options, what);
  return noGrad(() =>
    scope(() => {
      const depth = choose === 'top' ? Math.min(to, from + count) : to;
      const top = searchParts(queries.detach(), partsOf(keys, queries, options, what), depth, similarity, limits);
      const ranked = {
        scores: top.scores.narrow(1, from, depth - from),
        indices: top.indices.narrow(1, from, depth - from),
      };
      const { scores, indices } = choose === 'top' ? ranked : drawn(ranked, count, options.generator);
      const missing = count - indices.sizeOf(1);
      const wide = (x: Tensor, value: number): Tensor =>
        missing > 0 ? torch.cat([x, x.newFull([x.sizeOf(0), missing], value)], 1) : x.contiguous();
      return {
        indices: wide(indices, -1),
        scores: wide(scores, -Infinity),
        found: indices.ge(0).sum([1]),
      };
    }),
  );
}

/** Some of each query's, each equally likely, best first. */
function drawn({ scores, indices }: TopScores, count: number, generator = new Generator({ seed: 0 })): TopScores {
  const lots = torch
    .rand([...indices.shape], { dtype: 'float64', generator, device: generator.device })
    .to({ device: indices.device })
    .maskedFill_(indices.lt(0), -1);
  const [, places] = lots.topk(Math.min(count, indices.sizeOf(1)), 1);
  // In the order of ranks, in which what is missing comes last.
  const [order] = places.sort(1);
  return { scores: scores.gather(1, order), indices: indices.gather(1, order) };
}

function checkOptions(options: NegativeLimits, what: string): readonly [from: number, to: number] {
  const { count = 1, absoluteMargin, relativeMargin, scores, choose = 'top', similarity = 'cosine' } = options;
  positiveInteger(count, `${what}: count`);
  if (!['cosine', 'dot', 'euclidean'].includes(similarity)) {
    throw new InvalidArgumentError(`${what}: similarity must be 'cosine', 'dot' or 'euclidean', found '${similarity}'`);
  }
  if (!['top', 'random'].includes(choose)) {
    throw new InvalidArgumentError(`${what}: choose must be 'top' or 'random', found '${choose}'`);
  }
  for (const [name, margin] of Object.entries({ absoluteMargin, relativeMargin })) {
    if (margin !== undefined && !Number.isFinite(margin)) {
      throw new InvalidArgumentError(`${what}: ${name} must be a number, found ${margin}`);
    }
  }
  if (scores !== undefined && !(scores[0] <= scores[1])) {
    throw new InvalidArgumentError(`${what}: scores must be [least, most], found [${scores.join(', ')}]`);
  }
  const [from, to] = options.ranks ?? [0, choose === 'top' ? Infinity : Math.max(RANDOM_RANKS, count)];
  integerFrom(0, from, `${what}: the first rank`);
  if (to !== Infinity) integerFrom(from + 1, to, `${what}: the end of ranks`);
  else if (choose === 'random') {
    throw new InvalidArgumentError(`${what}: random negatives need an end of ranks, found Infinity`);
  }
  return [from, to];
}

function checkInput(options: MineHardNegativesOptions, what: string): void {
  const { queries, labels, ids, positives, positiveEmbeddings, positiveScores } = options;
  checkMatrix(queries, `${what}: queries`);
  const [count, dimension] = [queries.sizeOf(0), queries.sizeOf(1)];
  for (const [name, tensor] of Object.entries({ labels, ids })) {
    if (tensor !== undefined) checkTensor(tensor, [count], 'int64', `${what}: ${name}`);
  }
  if (positives !== undefined) {
    const shape = positives.ndim === 1 ? [count] : [count, positives.ndim === 2 ? positives.sizeOf(1) : 1];
    checkTensor(positives, shape, 'int64', `${what}: positives`);
  }
  if (positiveScores !== undefined) {
    checkTensor(positiveScores, [count], positiveScores.dtype, `${what}: positiveScores`);
  }
  if (positiveEmbeddings !== undefined) {
    const { ndim, dtype } = positiveEmbeddings;
    const several = ndim === 3 ? [positiveEmbeddings.sizeOf(1)] : [];
    checkTensor(positiveEmbeddings, [count, ...several, dimension], dtype, `${what}: positiveEmbeddings`);
  }
  for (const [name, tensor] of Object.entries({ labels, ids, positives, positiveEmbeddings, positiveScores })) {
    if (tensor !== undefined && tensor.device !== queries.device) {
      throw new InvalidArgumentError(
        `${what}: queries are on ${queries.device}, ${name} on ${tensor.device}; move one`,
      );
    }
  }
}

/** Limits, with the highest score that a query's negatives may have. */
function limitsOf(options: MineHardNegativesOptions, what: string): SearchLimits {
  const { queries, labels, ids, absoluteMargin, relativeMargin, scores, similarity = 'cosine' } = options;
  const positives = options.positives?.ndim === 1 ? options.positives.unsqueeze(1) : options.positives;
  const limits: SearchLimits = {
    ...(labels && { labels }),
    ...(ids && { ids }),
    ...(positives && { rows: positives }),
    ...(scores && { range: scores }),
  };
  if (absoluteMargin === undefined && relativeMargin === undefined) return limits;
  const most = noGrad(() =>
    scope(() => {
      const own = positiveScoresOf(options, positives, queries, similarity, what);
      const bounds = [
        ...(absoluteMargin === undefined ? [] : [own.sub(absoluteMargin)]),
        ...(relativeMargin === undefined ? [] : [own.sub(own.abs().mul(relativeMargin))]),
      ];
      return bounds.reduce((a, b) => a.minimum(b));
    }),
  );
  return { ...limits, most };
}

/** The lowest score of each query with its positives, [Q]; ∞ where it has none. */
function positiveScoresOf(
  { keys, positiveEmbeddings, positiveScores }: MineHardNegativesOptions,
  positives: Tensor | undefined,
  queries: Tensor,
  similarity: ScoreSimilarity,
  what: string,
): Tensor {
  if (positiveScores !== undefined) return positiveScores.detach();
  if (positiveEmbeddings !== undefined) {
    const several = positiveEmbeddings.ndim === 2 ? positiveEmbeddings.unsqueeze(1) : positiveEmbeddings;
    return ownScores(queries, several, similarity).amin([1]);
  }
  if (positives === undefined) {
    throw new InvalidArgumentError(`${what}: a margin needs positives, positiveEmbeddings or positiveScores to go by`);
  }
  const rows = rowsOf(keys, positives.clampMin(0).flatten(), what).unflatten(0, [...positives.shape]);
  const own = ownScores(queries, rows.to({ device: queries.device }), similarity);
  return torch.where(positives.ge(0), own, own.newFull([], Infinity)).amin([1]);
}

/** Some rows of the keys, [N, D]. */
function rowsOf(keys: KeySource, rows: Tensor, what: string): Tensor {
  if (keys instanceof MappedBank) return keys.rows(rows);
  const embeddings = isTensor(keys) ? keys : 'embeddings' in keys ? keys.embeddings : undefined;
  if (embeddings !== undefined) return embeddings.detach().indexSelect(0, rows);
  throw new InvalidArgumentError(
    `${what}: rows of batches that come one after the other cannot be looked up; give the positives' embeddings or scores`,
  );
}

/** The keys in parts on the queries' device. What is made for a part is freed when the next is asked for. */
function* partsOf(
  keys: KeySource,
  queries: Tensor,
  { labels, ids }: HardNegativeInput,
  what: string,
): globalThis.Generator<KeyPart, void, undefined> {
  const { device } = queries;
  let start = 0;
  for (const batch of batchesOf(keys)) {
    checkKeys(batch.embeddings, queries, what);
    const count = batch.embeddings.sizeOf(0);
    for (const [name, wanted] of Object.entries({ labels, ids }) as ['labels' | 'ids', Tensor | undefined][]) {
      const column = batch[name];
      if (wanted === undefined) continue;
      if (column === undefined) {
        throw new InvalidArgumentError(`${what}: queries have ${name}, the keys have none`);
      }
      checkTensor(column, [count], 'int64', `${what}: ${name} of the keys`);
    }
    if (keys instanceof MappedBank) {
      const made = Object.values(batch).filter(isTensor);
      const part = Object.fromEntries(
        Object.entries(batch)
          .filter(([, value]) => isTensor(value))
          .map(([name, value]) => [name, (value as Tensor).to({ device })]),
      ) as Omit<KeyPart, 'start'>;
      yield { start, ...part };
      dispose(...made, ...Object.values(part));
    } else {
      if (batch.embeddings.device !== device) {
        throw new InvalidArgumentError(
          `${what}: queries are on ${device}, keys on ${batch.embeddings.device}; move one`,
        );
      }
      yield { start, ...batch };
    }
    start += count;
  }
}

function batchesOf(keys: KeySource): Iterable<MemoryCandidates> {
  if (isTensor(keys)) return [{ embeddings: keys }];
  if (keys instanceof MappedBank) return keys.blocks();
  return 'embeddings' in keys ? [keys] : keys;
}

function checkKeys(x: Tensor, queries: Tensor, what: string): void {
  if (x.ndim !== 2 || !x.isFloatingPoint() || x.sizeOf(1) !== queries.sizeOf(1)) {
    throw new InvalidArgumentError(
      `${what}: keys must be floating-point [K, ${queries.sizeOf(1)}], found ${x.dtype} [${x.shape.join(', ')}]`,
    );
  }
}
