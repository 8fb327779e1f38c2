import { deriveSeed } from '../../data/seed';
import { positiveInteger } from '../../nn/checks';
import { Generator, InvalidArgumentError, noGrad, scope, torch, type JsonObject, type Tensor } from '../../torch';
import { digest, Groups, integers, type Integers } from './groups';
import { RandomSource } from './random-source';
import { EpochSampler, inBatches, type SampledBatch, type SamplerOptions } from './sampler';

/**
 * The probability that an item which a user has not voted for is one that the user does not like (Yu and Qin 2020), by Bayes' theorem:
 *
 *     P(dislikes | not voted) = σ(−r) / (σ(−r) + γ·σ(r)),   γ = σ(f) = P(not voted | likes)
 *
 * @param preferences r: logits of any shape
 * @param flips f: logits of the same shape
 * @returns the probabilities, with gradients
 */
export function trueNegativeProbability(preferences: Tensor, flips: Tensor): Tensor {
  checkSame(preferences, flips, 'trueNegativeProbability');
  // log of the odds against: log γ + log σ(r) − log σ(−r) = log σ(f) + r.
  return flips.logSigmoid().add(preferences).neg().sigmoid();
}

/**
 * NBPO (Yu and Qin 2020, "Sampler Design for Implicit Feedback Data by Noisy-label Robust Learning"): the negative log-likelihood of votes
 * when a liked item may be left without one,
 *
 *     voted:      −log( (1 − γ)·σ(r) )
 *     not voted:  −log( σ(−r) + γ·σ(r) )
 *
 * with r the logit of the preference and γ = σ(f) the probability that a liked item is not voted for, both learnt (the authors take two
 * matrix factorisations, with weight decay on both). An item without vote that the model is sure of then does no harm. Without flips
 * (f → −∞) it is binary cross-entropy.
 *
 * Checked against the gradients of this likelihood in the authors' code. They also train by two surrogates of it, which are not offered:
 * one maximises the sum of the probabilities, the other weights each factor's gradient by the other factor.
 *
 * @param preferences r, floating-point [N]
 * @param flips f, [N]
 * @param voted bool [N]
 * @returns the losses [N]
 * @throws InvalidArgumentError if shapes or dtypes do not fit
 */
export function nbpoLoss(preferences: Tensor, flips: Tensor, voted: Tensor): Tensor {
  checkSame(preferences, flips, 'nbpoLoss');
  if (voted.dtype !== 'bool' || voted.shape.join() !== preferences.shape.join()) {
    throw new InvalidArgumentError(
      `nbpoLoss: voted must be bool [${preferences.shape.join(', ')}], found ${voted.dtype} [${voted.shape.join(', ')}]`,
    );
  }
  const positive = flips.neg().logSigmoid().add(preferences.logSigmoid());
  const negative = preferences.neg().logSigmoid().logaddexp(flips.logSigmoid().add(preferences.logSigmoid()));
  return torch.where(voted, positive, negative).neg();
}

/** Votes of users for items, with items that were not voted for. */
export interface NbpoBatch extends SampledBatch {
  /** The user of each vote of `indices`, [N]. */
  users: Int32Array;
  /** The item voted for, [N]. */
  items: Int32Array;
  /** Different items that the user has not voted for, [N · candidates], those of a vote one after the other. */
  candidates: Int32Array;
}

/** What {@link NbpoSampler} takes. */
export interface NbpoSamplerOptions extends SamplerOptions {
  /** The user of each vote. */
  users: Integers;
  /** The item of each vote. */
  items: Integers;
  /** The number of items. */
  itemCount: number;
  /** Votes a batch, of all ranks together. Default: 5,000. */
  batchSize?: number;
  /** Items without vote for each vote. Default: 4. */
  negatives?: number;
  /** Among how many random ones they are chosen by `select`. Default: as many as are wanted, so that there is nothing to choose. */
  candidates?: number;
}

/**
 * Votes with items that the user has not voted for, for {@link nbpoLoss}: each vote once an epoch, with four uniform ones, as in the
 * authors' code. With more `candidates` than `negatives` the model chooses among them by {@link NbpoSampler.select}: in proportion to the
 * probability that they are true negatives. That adaptive choice is ours, from the same posterior; in the authors' code the posterior
 * weighs gradients only.
 *
 * For recommendation from clicks, votes or purchases, and wherever unlabelled pairs are taken as negatives.
 */
export class NbpoSampler extends EpochSampler<NbpoBatch> {
  readonly itemCount: number;
  readonly batchSize: number;
  readonly negatives: number;
  readonly candidates: number;
  readonly #users: Int32Array;
  readonly #items: Int32Array;
  /** The items of each user in ascending order, each once. */
  readonly #voted: Map<number, Int32Array>;

  /** @throws InvalidArgumentError naming the option that does not fit, or a user with fewer items left than candidates */
  constructor(options: NbpoSamplerOptions) {
    const what = 'NbpoSampler';
    const users = integers(options.users, `${what}: users`);
    super(users.length, options);
    this.itemCount = positiveInteger(options.itemCount, `${what}: itemCount`);
    this.batchSize = positiveInteger(options.batchSize ?? 5000, `${what}: batchSize`);
    this.negatives = positiveInteger(options.negatives ?? 4, `${what}: negatives`);
    this.candidates = positiveInteger(options.candidates ?? this.negatives, `${what}: candidates`);
    if (this.candidates < this.negatives) {
      throw new InvalidArgumentError(
        `${what}: candidates must be at least the ${this.negatives} negatives, found ${this.candidates}`,
      );
    }
    const items = integers(options.items, `${what}: items`, users.length);
    for (const [name, numbers, end] of [
      ['users', users, Infinity],
      ['items', items, this.itemCount],
    ] as const) {
      const wrong = numbers.find((number) => number < 0 || number >= end);
      if (wrong !== undefined)
        throw new InvalidArgumentError(`${what}: ${name} must be from 0 to less than ${end}, found ${wrong}`);
    }
    this.#users = users;
    this.#items = items;
    const groups = Groups.of(users, users.reduce((most, user) => Math.max(most, user), 0) + 1);
    this.#voted = new Map();
    for (const user of new Set(users)) {
      const voted = Int32Array.from(new Set(Array.from(groups.of(user), (vote) => items[vote]!))).sort();
      if (this.itemCount - voted.length < this.candidates) {
        throw new InvalidArgumentError(
          `${what}: user ${user} has ${this.itemCount - voted.length} items without vote, fewer than ${this.candidates} candidates`,
        );
      }
      this.#voted.set(user, voted);
    }
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    return inBatches(random.permutation(this.size), this.batchSize, false);
  }

  protected override complete(batch: SampledBatch): NbpoBatch {
    const { epoch, step, indices } = batch;
    const candidates = new Int32Array(indices.length * this.candidates);
    indices.forEach((vote, row) => {
      // Each vote has its own stream, so that its candidates do not depend on the shard.
      const random = new RandomSource(this.seed, epoch, step, vote);
      candidates.set(this.#unvoted(this.#voted.get(this.#users[vote]!)!, random), row * this.candidates);
    });
    const users = indices.map((vote) => this.#users[vote]!);
    return { ...batch, users, items: indices.map((vote) => this.#items[vote]!), candidates };
  }

  /**
   * Chooses each vote's negatives among its candidates, without replacement, in proportion to {@link trueNegativeProbability}.
   *
   * @param batch what `next` gave
   * @param preferences logits of the candidates [N, candidates]
   * @param flips their flip logits [N, candidates]
   * @returns int64 [N, negatives]: positions among the candidates of each row. No gradients
   * @throws InvalidArgumentError if shapes do not fit
   */
  select(batch: NbpoBatch, preferences: Tensor, flips: Tensor): Tensor {
    const shape = [batch.indices.length, this.candidates];
    checkSame(preferences, flips, 'NbpoSampler.select');
    if (preferences.shape.join() !== shape.join()) {
      throw new InvalidArgumentError(
        `NbpoSampler.select: preferences must be [${shape.join(', ')}], found [${preferences.shape.join(', ')}]`,
      );
    }
    const generator = new Generator({ seed: deriveSeed(this.seed, batch.epoch, batch.step, this.shard.rank) });
    return noGrad(() =>
      scope(() => {
        const [r, f] = [preferences, flips].map((logits) => logits.detach().to({ dtype: 'float64' })) as [
          Tensor,
          Tensor,
        ];
        const weights = f.logSigmoid().add(r).neg().logSigmoid();
        const uniform = torch.rand(shape, { dtype: 'float64', generator }).to({ device: preferences.device });
        // The largest of log-weights plus Gumbel noise are a draw in proportion to the weights, without replacement.
        return weights
          .sub(
            uniform
              .clampMin(2 ** -54)
              .log()
              .neg()
              .log(),
          )
          .topk(this.negatives, 1)[1];
      }),
    );
  }

  /** Different random items that are not among those voted for (ascending). */
  #unvoted(voted: Int32Array, random: RandomSource): Int32Array {
    const chosen = new Set<number>();
    const left = this.itemCount - voted.length;
    // Floyd's way of drawing without repetition (Bentley and Floyd 1987), then the k-th item that is not voted for.
    for (let end = left - this.candidates; end < left; end++) {
      const place = random.integer(end + 1);
      chosen.add(chosen.has(place) ? end : place);
    }
    return random.shuffle(Int32Array.from(chosen, (place) => skipping(voted, place)));
  }

  protected override identity(): JsonObject {
    const { itemCount, batchSize, negatives, candidates } = this;
    return { itemCount, batchSize, negatives, candidates, votes: digest(this.#users, this.#items) };
  }
}

/** The number at `place` among the integers from 0 that are not in an ascending list. */
function skipping(list: Int32Array, place: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    // So many numbers below list[middle] are not in the list.
    if (list[middle]! - middle <= place) low = middle + 1;
    else high = middle;
  }
  return place + low;
}

function checkSame(preferences: Tensor, flips: Tensor, what: string): void {
  const fits = preferences.isFloatingPoint() && flips.isFloatingPoint() && preferences.device === flips.device;
  if (fits && preferences.shape.join() === flips.shape.join()) return;
  throw new InvalidArgumentError(
    `${what}: preferences and flips must be floating-point of one shape and device, found ${preferences.dtype} ` +
      `[${preferences.shape.join(', ')}] and ${flips.dtype} [${flips.shape.join(', ')}]`,
  );
}
