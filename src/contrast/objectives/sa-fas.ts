import type { Tensor } from '../../torch';
import type { CommonOptions } from './common-options';
import { checkIds, checkTemperature } from './parts';
import { supCon } from './sup-con';
import { amongViews } from './views';

/** What {@link saFas} takes beside the views, labels and domains. */
export interface SaFasOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.1, as in the authors' code. */
  temperature?: number | Tensor;
}

/**
 * The separability term of SA-FAS (Sun et al. 2023, "Rethinking Domain Generalization for Face Anti-spoofing: Separability and Alignment"):
 * SupCon in which only samples of the same class and the same domain are positives, so that domains stay apart in each class.
 *
 *     lossᵢ = −1/|P(i)| Σ_{p ∈ P(i)} log( exp(sᵢₚ) / Σ_{a ≠ i} exp(sᵢₐ) ),   P(i) = those with i's label and i's domain, s = cosine / τ
 *
 * The authors add it with a weight of 0.1 to a classifier's loss for each domain, and align the classifiers by a projected gradient, which is
 * not part of it.
 *
 * For training on several domains in which the same two classes should lie the same way from each other.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @param labels int64 [N]
 * @param domains int64 [N]
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or the temperature do not fit
 */
export function saFas(views: readonly Tensor[], labels: Tensor, domains: Tensor, options: SaFasOptions = {}): Tensor {
  const { temperature = 0.1, ...common } = options;
  const { anchors } = amongViews(views, 'saFas');
  const [first] = views as readonly [Tensor];
  checkIds(labels, first.sizeOf(0), 'saFas: labels', first);
  checkIds(domains, first.sizeOf(0), 'saFas: domains', first);
  checkTemperature(temperature, 'saFas');
  const classes = labels.max().sub(labels.min()).add(1);
  const groups = domains.mul(classes).add(labels);
  return supCon(anchors, groups.repeat([views.length]), { ...common, temperature });
}
