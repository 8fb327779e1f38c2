/** Selective mixup, and the resampling that hides in it. */
import { InvalidArgumentError, noGrad, scope, torch, type Generator, type Tensor } from '../../torch';
import { positiveInteger } from '../../nn/checks';
import { checkIds, positionsOf } from '../../contrast/objectives/parts';
import { drawAllowed, drawUnit } from './mix';

/** Whether a partner must have the same, another or any. */
export type PartnerRule = 'same' | 'other' | 'any';

/** What {@link selectPartners} takes beside the labels. */
export interface SelectPartnersOptions {
  /** Of the class. Default `'other'`. */
  label?: PartnerRule;
  /** int64 [N]: where each sample comes from. */
  domains?: Tensor;
  /** Of the domain; needs domains. Default `'any'`. */
  domain?: PartnerRule;
  generator: Generator;
}

/** What {@link selectPartners} gives. */
export interface SelectedPartners {
  /** int64 [N]; the sample itself where nobody fits. */
  partners: Tensor;
  /** bool [N]: whether somebody fits. */
  found: Tensor;
}

/**
 * Partners for selective mixup: for each sample one of the others that fit the rules, each as likely as another: of another class, of the same class
 * in another domain, and so on. Mix with {@link mixup}, or do not, for the control below.
 *
 * Teney, Wang and Abbasnejad 2024, "Selective Mixup Helps with Distribution Shifts, But Not (Only) because of Mixup", show that much of what such
 * mixing gains comes from which samples it picks: over two classes, partners of the other class make both equally frequent. So compare, on the same
 * partners,
 *
 *     mixing        x̃ᵢ = λ xᵢ + (1 − λ) x_partner(i)
 *     resampling    xᵢ and x_partner(i) as they are: {@link resampledWith}
 *     balance       {@link drawBalanced}, each class, or each pair of class and domain, as likely as another
 *
 * From the abstract; the paper's own experiments were not to be had.
 *
 * For training under shifts of classes or domains, and to know why it helped.
 *
 * @param labels int64 [N]
 * @throws InvalidArgumentError if labels or domains do not fit, before anything is drawn
 */
export function selectPartners(labels: Tensor, options: SelectPartnersOptions): SelectedPartners {
  const { label = 'other', domains, domain = 'any', generator } = options;
  const count = checkLabels(labels, 'selectPartners');
  for (const [name, rule] of [
    ['label', label],
    ['domain', domain],
  ] as const) {
    if (!['same', 'other', 'any'].includes(rule)) {
      throw new InvalidArgumentError(
        `selectPartners: ${name} must be 'same', 'other' or 'any', found '${String(rule)}'`,
      );
    }
  }
  if (domains !== undefined) checkIds(domains, count, 'selectPartners: domains', labels);
  else if (domain !== 'any') {
    throw new InvalidArgumentError(`selectPartners: the rule '${domain}' for domains needs domains`);
  }
  return noGrad(() =>
    scope(() => {
      const allowed = torch.ones([count, count], { dtype: 'bool', device: labels.device }).fillDiagonal_(0);
      const rules: [Tensor | undefined, PartnerRule][] = [
        [labels, label],
        [domains, domain],
      ];
      for (const [values, rule] of rules) {
        if (values === undefined || rule === 'any') continue;
        const same = values.unsqueeze(1).eq(values);
        allowed.logicalAnd_(rule === 'same' ? same : same.logicalNot());
      }
      const found = allowed.any(1);
      return { partners: torch.where(found, drawAllowed(allowed, generator), positionsOf(count, labels)), found };
    }),
  );
}

/**
 * The control without mixing: the batch and its partners side by side, 2·N places of which the first N are 0 … N − 1. Train on these, each with its
 * own label.
 */
export function resampledWith(partners: Tensor): Tensor {
  checkLabels(partners, 'resampledWith');
  return torch.cat([positionsOf(partners.numel(), partners), partners]);
}

/** What {@link drawBalanced} takes beside the labels. */
export interface DrawBalancedOptions {
  /** How many to draw. Default: as many as labels. */
  count?: number;
  /** int64 [N]: with them, each pair of class and domain that occurs is as likely as another. */
  domains?: Tensor;
  generator: Generator;
}

/**
 * Draws samples so that each class is as likely as another, with replacement: the classical answer to shifts of class frequencies, and the
 * control for {@link selectPartners}.
 *
 * @param labels int64 [N]
 * @returns int64 [count]: places among the labels
 * @throws InvalidArgumentError if labels, domains or the count do not fit, before anything is drawn
 */
export function drawBalanced(labels: Tensor, options: DrawBalancedOptions): Tensor {
  const { domains, generator } = options;
  const size = checkLabels(labels, 'drawBalanced');
  const count = positiveInteger(options.count ?? size, 'drawBalanced: count');
  if (domains !== undefined) checkIds(domains, size, 'drawBalanced: domains', labels);
  return noGrad(() =>
    scope(() => {
      const keys = domains === undefined ? labels.unsqueeze(1) : torch.stack([labels, domains], 1);
      const [, groups, sizes] = torch.uniqueDim(keys, 0, true, true, true);
      const order = groups.argsort({ stable: true });
      const ends = sizes.cumsum(0);
      // A group first, then a place in it.
      const [first, second] = drawUnit([2, count], generator).to(labels.device).unbind(0) as [Tensor, Tensor];
      const below = (unit: Tensor, limit: Tensor | number): Tensor => unit.mul(limit).floor().to('int64');
      const group = below(first, sizes.numel());
      const within = below(second, sizes.indexSelect(0, group));
      const start = ends.sub(sizes).indexSelect(0, group);
      return order.indexSelect(0, start.add(within));
    }),
  );
}

function checkLabels(labels: Tensor, what: string): number {
  checkIds(labels, labels.numel(), `${what}: labels`, labels);
  if (labels.numel() === 0) throw new InvalidArgumentError(`${what}: labels: there are none`);
  return labels.numel();
}
