/** Whether a momentum set-up lets batch statistics tell a query which key is its own. */
import { InvalidArgumentError, noGrad, scope, torch, type StateDict, type Tensor } from '../torch';
import { inScope, openScope } from '../torch/scope';
import { numberWithin, positiveInteger } from '../nn/checks';

/** Embeds both views of a batch as a training step does: rows of the queries and rows of their keys, in the same order. */
export type EncodePair = (queryView: Tensor, keyView: Tensor) => readonly [queries: Tensor, keys: Tensor];

/** What the detector needs of a trainer of queries against momentum keys; `MoCo` has it. */
export interface MomentumTrainer {
  /** One training step, which hands queries and keys to the objective. */
  step(queryView: Tensor, keyView: Tensor): unknown;
  readonly objective: { contrast(queries: Tensor, keys: Tensor, queue: Tensor): object };
  stateDict(): StateDict;
  loadStateDict(state: StateDict): void;
}

/** How {@link detectLeak} probes. */
export interface LeakOptions {
  /** How many places in the batch are probed, spread evenly. Default 4, or N if that is less. */
  probes?: number;
  /**
   * From which share of what is possible above chance the verdict is a leak; twice as much is asked for where less than half of the company
   * is shared. Default 0.25.
   */
  threshold?: number;
  /** By how much an embedding must change, relative to its length, to count as changed. Default 1e-5, above float32's rounding. */
  tolerance?: number;
}

/** What {@link detectLeak} found. */
export interface LeakReport {
  /**
   * - `'leaks'`: from how the batch shaped a query, its key can be told from keys of other batches.
   * - `'shielded'`: queries and keys depend on their batches, but too little on the same samples for that.
   * - `'independent'`: queries, or keys, do not depend on the other samples at all, so nothing can leak.
   */
  verdict: 'leaks' | 'shielded' | 'independent';
  /** How often a query's batch was told from its key alone, content being equal: 1 for a perfect leak. */
  identified: number;
  /** What guessing gives: 1 / batches. */
  chance: number;
  /** On how many guesses `identified` rests. */
  trials: number;
  /** Of the other samples of a batch, the share whose query changes when one sample is replaced: (group − 1) / (N − 1). */
  queryReach: number;
  /** The same for keys. */
  keyReach: number;
  /**
   * How far one sample reaches the same others among queries and among keys: both / √(queries · keys). 1 where a query and its key
   * are normalised in the same company; about (n − 1) / (N − 1) for groups of n that were shuffled; 0 where either depends on nobody.
   */
  companyOverlap: number;
  /** The verdict in a sentence, with the numbers. */
  summary: string;
}

/**
 * Tells whether batch statistics give the positive away in a set-up where queries are compared with momentum keys, as in MoCo.
 *
 * A query leaks if its batch leaves a mark on it that its own key bears too and keys of other batches (the queue) do not: the encoder can
 * then match the marks in place of the content. Two measurements on the set-up as it is, in its present mode:
 *
 * 1. Identification. One and the same image is put into the same place of B batches, as query and as key. The content of the B queries and
 *    B keys is then equal, so what differs between them is the mark of their batches. Each query is matched with the key whose deviation
 *    from the mean key has the largest cosine with the query's deviation from the mean query. Without a leak 1 / B of the matches are
 *    right, with a perfect one all are.
 * 2. Company. One sample of a batch is replaced in both views; which other queries change, and which other keys? Groups of statistics
 *    become visible, and whether a query and its key share theirs.
 *
 * The verdict is `'independent'` if no query or no key changes in 2; else `'leaks'` if 1 exceeds chance by four standard deviations and by
 * at least `threshold` of what is possible, or twice that if 2 finds less than half of the company shared (in one shuffled order a few
 * samples meet again by accident); else `'shielded'`. Plain batch norm in both encoders leaks, with the keys shuffled or not; so do groups
 * without shuffling. Shuffled groups shield, the better the more there are; running statistics in the key encoder, and norms within a
 * sample, are independent. Two shuffled groups lie between: half the company is shared, and the verdict hangs on the order.
 *
 * A `MomentumTrainer` (such as `MoCo`) is stepped with another objective, which sees the very queries and keys of training, and its
 * state is put back after every step. A function is called as it is: it must give the same for the same input (seed its shuffling anew in
 * each call), and moves running statistics if its modules do.
 *
 * Before a long run with a new norm, batch size or number of groups. It takes (batches + 1) · probes + 2 steps. Have as many batches as
 * you can (8 or more), of the size that you train with.
 *
 * The leak and ShuffleBN: He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning, section 3.3. The measurements
 * are our own.
 *
 * @param batches at least 4, each [query view, key view] of the same samples, all of one shape [N, …] with N ≥ 2
 * @throws InvalidArgumentError if the batches do not fit, or the set-up gives other embeddings for the same input
 */
export function detectLeak(
  setUp: EncodePair | MomentumTrainer,
  batches: readonly (readonly [Tensor, Tensor])[],
  options: LeakOptions = {},
): LeakReport {
  const samples = checkBatches(batches);
  const probes = Math.min(positiveInteger(options.probes ?? 4, 'detectLeak: probes'), samples);
  const threshold = numberWithin(0, 1, options.threshold ?? 0.25, 'detectLeak: threshold');
  const tolerance = numberWithin(0, 1, options.tolerance ?? 1e-5, 'detectLeak: tolerance');
  const places = Array.from({ length: probes }, (_, probe) => Math.floor(((probe + 0.5) * samples) / probes));
  return noGrad(() =>
    scope(() => {
      const encode = typeof setUp === 'function' ? setUp : encoderOf(setUp);
      const embed = (queryView: Tensor, keyView: Tensor): Pair =>
        scope(() => {
          const [queries, keys] = encode(queryView, keyView);
          return { queries: onHost(queries, samples), keys: onHost(keys, samples) };
        });
      const company = companyOf(embed, batches, places, tolerance);
      const trials = probes * batches.length;
      const identified = places.reduce((sum, place) => sum + identifiedAt(embed, batches, place), 0) / trials;
      return judged({ ...company, identified, chance: 1 / batches.length, trials }, threshold);
    }),
  );
}

/** [N, D], float64, on the host. */
interface Pair {
  queries: Tensor;
  keys: Tensor;
}

interface Company {
  queryReach: number;
  keyReach: number;
  companyOverlap: number;
}

function checkBatches(batches: readonly (readonly [Tensor, Tensor])[]): number {
  const shape = batches[0]?.[0].shape;
  const samples = shape?.[0] ?? 0;
  if (batches.length < 4 || samples < 2) {
    throw new InvalidArgumentError(
      `detectLeak: needs at least 4 batches of at least 2 samples, found ${batches.length} of ${samples}`,
    );
  }
  const odd = batches.flat().find((view) => view.shape.join() !== shape!.join());
  if (odd !== undefined) {
    throw new InvalidArgumentError(
      `detectLeak: all views must have one shape, found [${shape!.join(', ')}] and [${odd.shape.join(', ')}]`,
    );
  }
  return samples;
}

function onHost(embeddings: Tensor, samples: number): Tensor {
  if (embeddings.ndim !== 2 || embeddings.sizeOf(0) !== samples) {
    throw new InvalidArgumentError(
      `detectLeak: expected an embedding a sample, [${samples}, D], found [${embeddings.shape.join(', ')}]`,
    );
  }
  return embeddings.detach().to({ device: 'cpu', dtype: 'float64' });
}

/** Steps a trainer and gives what its objective was handed; the trainer is as before afterwards. */
function encoderOf(trainer: MomentumTrainer): EncodePair {
  const { tensors, values } = trainer.stateDict();
  const saved: StateDict = {
    tensors: new Map([...tensors].map(([name, tensor]) => [name, tensor.clone()])),
    values: structuredClone(values),
  };
  return (queryView, keyView) => {
    const seen: [Tensor, Tensor][] = [];
    // Queries and keys outlive the scope of the step.
    const home = openScope();
    const open = trainer as { objective: MomentumTrainer['objective'] };
    const own = open.objective;
    try {
      open.objective = {
        contrast(queries, keys) {
          seen.push(inScope(home, () => [queries.detach().clone(), keys.detach().clone()]));
          return { loss: queries.sum() };
        },
      };
      trainer.step(queryView, keyView);
    } finally {
      open.objective = own;
      trainer.loadStateDict(saved);
    }
    return seen[0]!;
  };
}

/** Replaces single samples of the first batch and sees who else changes. */
function companyOf(
  embed: (queryView: Tensor, keyView: Tensor) => Pair,
  batches: readonly (readonly [Tensor, Tensor])[],
  places: readonly number[],
  tolerance: number,
): Company {
  const [first, other] = batches as readonly [readonly [Tensor, Tensor], readonly [Tensor, Tensor]];
  const base = embed(...first);
  const again = embed(...first);
  if (
    changed(base.queries, again.queries, tolerance).includes(true) ||
    changed(base.keys, again.keys, tolerance).includes(true)
  ) {
    throw new InvalidArgumentError(
      'detectLeak: the set-up gives other embeddings for the same input: seed its shuffling and dropout anew in each call, and keep ' +
        'its weights as they are',
    );
  }
  let [queries, keys, both] = [0, 0, 0];
  for (const place of places) {
    const swapped = embed(withSample(first[0], place, other[0]), withSample(first[1], place, other[1]));
    const [queryMoved, keyMoved] = [
      changed(base.queries, swapped.queries, tolerance),
      changed(base.keys, swapped.keys, tolerance),
    ];
    queryMoved.forEach((moved, sample) => {
      if (sample === place) return;
      queries += Number(moved);
      keys += Number(keyMoved[sample]);
      both += Number(moved && keyMoved[sample]);
    });
  }
  const others = places.length * (base.queries.sizeOf(0) - 1);
  return {
    queryReach: queries / others,
    keyReach: keys / others,
    companyOverlap: both === 0 ? 0 : both / Math.sqrt(queries * keys),
  };
}

/** A view with one sample taken from another. */
function withSample(view: Tensor, place: number, from: Tensor): Tensor {
  const copy = view.clone();
  copy.select(0, place).copy_(from.select(0, place));
  return copy;
}

/** For each row whether it moved by more than `tolerance` of its length. */
function changed(before: Tensor, after: Tensor, tolerance: number): boolean[] {
  return scope(() => {
    const lengths = before.square().sum([1]).sqrt();
    const moved = after.sub(before).square().sum([1]).sqrt();
    return Array.from(moved.gt(lengths.mul(tolerance)).dataSync() as ArrayLike<number | boolean>, Boolean);
  });
}

/** How many of the batches are told right by the key of one image that stands at `place` in all of them. */
function identifiedAt(
  embed: (queryView: Tensor, keyView: Tensor) => Pair,
  batches: readonly (readonly [Tensor, Tensor])[],
  place: number,
): number {
  // The same image in both roles, so that two views of it do not differ either.
  const image = batches[0]![0];
  const pairs = batches.map(([queryView, keyView]) =>
    scope(() => {
      const { queries, keys } = embed(withSample(queryView, place, image), withSample(keyView, place, image));
      return { query: queries.select(0, place), key: keys.select(0, place) };
    }),
  );
  return scope(() => {
    const [queries, keys] = [pairs.map(({ query }) => query), pairs.map(({ key }) => key)].map((rows) => {
      const marks = torch.stack(rows);
      const deviations = marks.sub(marks.mean([0]));
      return deviations.div(deviations.square().sum([1], true).sqrt().clampMin(1e-300));
    }) as [Tensor, Tensor];
    const nearest = queries.matmul(keys.t()).argmax(1);
    return nearest.eq(torch.arange(batches.length)).sum().itemSync();
  });
}

function judged(found: Omit<LeakReport, 'verdict' | 'summary'>, threshold: number): LeakReport {
  const { identified, chance, trials, queryReach, keyReach, companyOverlap } = found;
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  if (queryReach === 0 || keyReach === 0) {
    const who =
      queryReach === 0 && keyReach === 0 ? 'queries and keys do' : queryReach === 0 ? 'queries do' : 'keys do';
    const summary = `No leak is possible: ${who} not depend on the other samples of their batch.`;
    return { verdict: 'independent', ...found, summary };
  }
  const excess = (identified - chance) / (1 - chance);
  const deviations = (identified - chance) / Math.sqrt((chance * (1 - chance)) / trials);
  const needed = companyOverlap >= 0.5 ? threshold : Math.min(2 * threshold, 1);
  const leaks = excess >= needed && deviations >= 4;
  const numbers =
    `with equal content, ${percent(identified)} of ${trials} queries are matched with the key of their own batch (chance ` +
    `${percent(chance)}); replacing a sample changes ${percent(queryReach)} of the other queries and ${percent(keyReach)} of the other ` +
    `keys, the same ones to ${percent(companyOverlap)}`;
  return leaks
    ? { verdict: 'leaks', ...found, summary: `Batch statistics give the positive away: ${numbers}.` }
    : { verdict: 'shielded', ...found, summary: `Batch statistics do not tell the positive: ${numbers}.` };
}
