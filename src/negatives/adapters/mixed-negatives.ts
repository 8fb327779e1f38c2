/** Mixing as the objective of momentum contrast. */
import { InfoNCE } from '../../contrast';
import { checkNumber } from '../../contrast/objectives/parts';
import type { MoCoLoss, MoCoObjective } from '../../models';
import { shareAbove } from '../../models/moco-objective';
import { InvalidArgumentError, noGrad, scope, type Tensor } from '../../torch';
import { joinStates, jsonObject, partOfState, type StateDict, type Stateful } from '../../torch/state';
import type { FeatureTransformation } from '../mixing/feature-transformation';
import type { MoCHi } from '../mixing/mochi';

/** What a {@link MixedNegatives} is made from. */
export interface MixedNegativesOptions {
  /** Transforms queries, keys and queue before they are compared, and before mixes are made. Default: they are as they are. */
  featureTransformation?: FeatureTransformation;
  /** Adds mixes of the hardest negatives. Its warm-up counts calls: one a step, two with `symmetric`. Default: none are added. */
  mochi?: MoCHi;
  /** Which of the queue count: `'all'`, or only the `'hardest'` of MoCHi. Default `'all'`. */
  keep?: 'all' | 'hardest';
  /** τ. Default 0.2, as in MoCo v2 and in MoCHi's paper; `MoCo` alone has 0.07. */
  temperature?: number;
}

/** What {@link MixedNegatives} gives. None has dimensions; all but the loss have no gradient. */
export interface MixedLoss extends MoCoLoss {
  /** The share of queries whose positive is nearer than all of the queue, both transformed if they are. */
  accuracy: Tensor;
  /** The mean similarity of a query with the nearest of the queue, both transformed if they are. */
  nearestSimilarity: Tensor;
  /** With MoCHi: the share of queries whose positive is nearer than all of the queue and all mixes. */
  accuracyWithMixes?: Tensor;
}

/**
 * MoCHi, feature transformation or both as what `MoCo` minimises: InfoNCE over a queue that is transformed, with mixes of its hardest.
 *
 * ```ts
 * const objective = new MixedNegatives({ mochi: new MoCHi({ warmup: 500, seed }), keep: 'hardest', temperature: 0.2 });
 * const moco = new MoCo({ encoder, head, objective });
 * ```
 *
 * The keys that enter the queue are those of the encoder, not the transformed ones. With neither it is `MoCo`'s own loss. What MoCHi and the
 * transformation draw, and where the warm-up is, is in the state of the `MoCo`.
 */
export class MixedNegatives implements MoCoObjective, Stateful {
  readonly featureTransformation: FeatureTransformation | undefined;
  readonly mochi: MoCHi | undefined;
  readonly keep: 'all' | 'hardest';
  readonly temperature: number;
  readonly #infoNce: InfoNCE;

  constructor(options: MixedNegativesOptions = {}) {
    const { featureTransformation, mochi, keep = 'all', temperature = 0.2 } = options;
    checkNumber(temperature, 'MixedNegatives: temperature', { above: true });
    if (keep !== 'all' && keep !== 'hardest') {
      throw new InvalidArgumentError(`MixedNegatives: keep must be 'all' or 'hardest', found '${String(keep)}'`);
    }
    if (keep === 'hardest' && mochi === undefined) {
      throw new InvalidArgumentError("MixedNegatives: keep 'hardest' needs mochi, which says how many those are");
    }
    [this.featureTransformation, this.mochi, this.keep, this.temperature] = [
      featureTransformation,
      mochi,
      keep,
      temperature,
    ];
    this.#infoNce = new InfoNCE({ temperature, normalize: false });
  }

  /**
   * The loss, and how hard the negatives were.
   *
   * @param queries [N, D] of length one
   * @param keys [N, D] of length one: row i is the key of query i
   * @param queue [K, D] of length one
   * @throws InvalidArgumentError if shapes or devices do not fit, before anything is drawn
   */
  contrast(queries: Tensor, keys: Tensor, queue: Tensor): MixedLoss {
    return scope(() => {
      const moved = this.featureTransformation?.apply(queries, keys, queue) ?? { queries, keys, negatives: queue };
      return this.mochi === undefined ? this.#overQueue(moved) : this.#withMixes(this.mochi, moved);
    });
  }

  /** The states of `mochi` and `featureTransformation`, as far as there are any. */
  stateDict(): StateDict {
    return joinStates(Object.fromEntries(this.#parts().map(([name, part]) => [name, part.stateDict()])));
  }

  /** @throws InvalidArgumentError what {@link MixedNegatives.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    const parts = this.#parts();
    const saved = Object.keys(jsonObject(state.values, 'MixedNegatives: the state dict')).sort();
    const own = parts.map(([name]) => name).sort();
    if (saved.join() !== own.join()) {
      const list = (names: string[]): string => (names.length === 0 ? 'nothing' : names.join(' and '));
      throw new InvalidArgumentError(`MixedNegatives: the state dict is of ${list(saved)}, not of ${list(own)}`);
    }
    for (const [name, part] of parts) part.checkStateDict(partOfState(state, name));
  }

  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    for (const [name, part] of this.#parts()) part.loadStateDict(partOfState(state, name));
  }

  #parts(): [string, FeatureTransformation | MoCHi][] {
    const { featureTransformation, mochi } = this;
    return Object.entries({ featureTransformation, mochi }).filter(
      (entry): entry is [string, FeatureTransformation | MoCHi] => entry[1] !== undefined,
    );
  }

  #overQueue({ queries, keys, negatives }: Compared): MixedLoss {
    const { loss, positives, negatives: others } = this.#infoNce.parts(queries, keys, negatives);
    return noGrad(() => {
      const nearest = others.detach().amax([1]);
      return {
        loss,
        accuracy: shareAbove(positives.detach(), nearest),
        nearestSimilarity: nearest.mean().mul(this.temperature),
      };
    });
  }

  #withMixes(mochi: MoCHi, { queries, keys, negatives }: Compared): MixedLoss {
    const { temperature, keep } = this;
    const options = { temperature, keep, normalize: false };
    const { loss, positives, nearest, nearestMix } = mochi.parts(queries, keys, negatives, options);
    return noGrad(() => ({
      loss,
      accuracy: shareAbove(positives, nearest),
      nearestSimilarity: nearest.mean(),
      accuracyWithMixes: shareAbove(positives, nearest.maximum(nearestMix)),
    }));
  }
}

interface Compared {
  queries: Tensor;
  keys: Tensor;
  negatives: Tensor;
}
