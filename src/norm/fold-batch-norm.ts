import { InvalidArgumentError, noGrad, scope, type Tensor } from '../torch';
import { Identity, type AnyModule, type Module } from '../nn';
import { numberWithin } from '../nn/checks';
import { ConvBN2d } from './conv-bn2d';
import { findNormPairs, refuseUnpaired } from './conv-norm-pairs';
import { foldedLayer } from './folded-layer';
import { inMode, withForward } from './observe-forward';
import { replaceModules } from './replace-modules';

/** What {@link foldBatchNorm} takes. */
export interface FoldBatchNormOptions {
  /**
   * An input to run the model on, before and after, in evaluation mode: it shows which norm follows which layer, and that nothing
   * changed. Default: the structure and names tell, and nothing is run.
   */
  check?: Tensor;
  /** The largest difference allowed, as a share of the largest output. Default 1e-4, which suits float32; 1e-10 suits float64. */
  tolerance?: number;
  /** What to do with batch normalisation that cannot be folded: `'error'` (default) refuses, `'keep'` leaves it as it is. */
  unpaired?: 'error' | 'keep';
}

/** What {@link foldBatchNorm} gives. */
export interface FoldedBatchNorm<M> {
  /** The model, which is a new object only if it was itself a `ConvBN2d`. */
  model: M;
  /** The paths of the layers that took a norm in. */
  folded: string[];
  /** The paths of the norms that were left, with `unpaired: 'keep'`. */
  kept: string[];
  /** The largest difference found, as a share of the largest output; null without `check`. */
  difference: number | null;
}

/**
 * Folds batch normalisation into the convolutions and linear layers before it: a layer with weight w and bias b and the norm
 * behind it become one layer with w s and β + s (b − μ), s = γ / √(σ² + eps), which gives in every mode what the two gave in evaluation.
 * Worked out in float64. The norms become `Identity`; a `ConvBN2d` becomes its convolution.
 *
 * With `check`, pairs are found by running the model: a norm belongs to the layer whose very output it is given, and the outputs before
 * and after must agree. Without it, pairs are neighbours in a `Sequential` and children called alike (`conv1` and `bn1`, `fc` and
 * `norm`), as in this library's encoders. Norms that follow anything else, keep no running statistics, or stand in several places,
 * are refused. Norms that are not plain batch normalisation in evaluation (some adapt at test time) show only with `check`.
 *
 * For inference and export. The model's folded layers have new parameters: make an optimiser anew.
 *
 * @throws InvalidArgumentError, before anything changes, for a norm that cannot be folded, and for outputs that differ
 */
export function foldBatchNorm<M extends Module>(model: M, options: FoldBatchNormOptions = {}): FoldedBatchNorm<M> {
  const { check = null, unpaired: left = 'error' } = options;
  const tolerance = numberWithin(0, Infinity, options.tolerance ?? 1e-4, 'foldBatchNorm: tolerance');
  const { pairs, unpaired } = findNormPairs(model, check);
  if (left === 'error') refuseUnpaired('foldBatchNorm', unpaired);
  const paths = new Map([...model.namedModules()].map(([path, module]) => [module, path] as const));
  const replacements = new Map<AnyModule, AnyModule>();
  const folded: string[] = [];
  for (const { layer, norm } of pairs) {
    replacements.set(layer, foldedLayer({ layer, norm }));
    replacements.set(norm, new Identity());
    folded.push(paths.get(layer)!);
  }
  for (const [block, path] of paths) {
    if (!(block instanceof ConvBN2d)) continue;
    const { conv, bn } = block;
    replacements.set(block, bn === null ? conv : foldedLayer({ layer: conv, norm: bn }));
    folded.push(path);
  }
  let difference: number | null = null;
  if (check !== null) {
    difference = relativeDifference(model, replacements, check);
    if (!(difference <= tolerance)) {
      throw new InvalidArgumentError(
        `foldBatchNorm: the output differs by ${difference.toExponential(2)} of its largest value, more than the tolerance of ` +
          `${tolerance}; a norm does something else than batch normalisation, or what it is given is used elsewhere too`,
      );
    }
  }
  return { model: replaceModules(model, replacements), folded, kept: [...unpaired.keys()], difference };
}

/** The difference that the replacements make, found without putting them in place. */
function relativeDifference(model: Module, replacements: ReadonlyMap<AnyModule, AnyModule>, input: Tensor): number {
  return noGrad(() =>
    scope(() =>
      inMode(model, false, () => {
        const before = model.forward(input);
        const after = withForward(
          replacements.keys(),
          (module, inputs) => replacements.get(module)!.forward(...inputs),
          () => model.forward(input),
        );
        const wide = (tensor: Tensor) => tensor.to({ dtype: 'float64' });
        const largest = wide(before).abs().max().itemSync();
        const difference = wide(after).sub(wide(before)).abs().max().itemSync();
        return difference === 0 ? 0 : difference / largest;
      }),
    ),
  );
}
