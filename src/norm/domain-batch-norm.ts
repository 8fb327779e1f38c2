import { InvalidArgumentError, type Tensor } from '../torch';
import { Module, ModuleList, type AnyModule, type Parameter } from '../nn';
import { positiveInteger } from '../nn/checks';
import type { BatchNorm, BatchNormOptions } from './batch-norm';

/** What domain-specific batch normalisation is made from. */
export interface DomainBatchNormOptions extends BatchNormOptions {
  /** D: how many sets of statistics there are. Default 2: dual batch norm. */
  domains?: number;
  /** Whether each domain has its own γ and β (`'own'`, default), or all have one pair (`'shared'`). Statistics are always a domain's own. */
  affineOf?: 'own' | 'shared';
}

/**
 * D batch norms in one place, of which one is in use: domain d normalises by its own batch statistics in training and by its own running
 * statistics in evaluation, y = (x − μ_d) / √(σ_d² + eps) · γ_d + β_d, and only its running statistics move. {@link withDomain} or
 * {@link setDomain} choose d for a whole model; it starts at 0 and is no part of the state.
 *
 * With two domains it is dual batch norm: 0 for clean images, 1 for adversarial or strongly augmented ones. A pass costs one batch norm.
 *
 * State: `domains.<d>.weight`, `.bias`, `.running_mean`, `.running_var`, `.num_batches_tracked` of every domain; with `affineOf: 'shared'`
 * the one weight and bias are listed under each. Options, errors and defaults are those of {@link BatchNorm}.
 *
 * Where one model is fed from distributions that must not share statistics: clean and adversarial views, source and target domains, two
 * modalities of one encoder.
 *
 * Chang et al. 2019, Domain-Specific Batch Normalization for Unsupervised Domain Adaptation; Xie et al. 2020, Adversarial Examples Improve
 * Image Recognition; in large-batch training with stale adversaries: Liu et al. 2022, Concurrent Adversarial Learning for Large-Batch
 * Training.
 */
export abstract class DomainBatchNorm extends Module {
  readonly features: number;
  /** The batch norm of each domain. */
  readonly domains: ModuleList<BatchNorm>;
  #domain = 0;

  constructor(options: DomainBatchNormOptions) {
    super();
    const { domains = 2, affineOf = 'own' } = options;
    const count = positiveInteger(domains, `${new.target.name}: domains`);
    const norms = Array.from({ length: count }, () => this.makeNorm(options));
    if (affineOf === 'shared') {
      const [first] = norms as [BatchNorm];
      for (const norm of norms) Object.assign(norm, { weight: first.weight, bias: first.bias } satisfies Affine);
    }
    this.features = options.features;
    this.domains = new ModuleList(norms);
  }

  /** The batch norm of one domain. */
  protected abstract makeNorm(options: BatchNormOptions): BatchNorm;

  /** The domain in use. */
  get domain(): number {
    return this.#domain;
  }

  set domain(domain: number) {
    this.checkDomain(domain);
    this.#domain = domain;
  }

  /** @throws InvalidArgumentError if there is no such domain */
  checkDomain(domain: number): void {
    if (!Number.isSafeInteger(domain) || domain < 0 || domain >= this.domains.length) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: there is no domain ${String(domain)}: domains are numbered from 0 to ${this.domains.length - 1}`,
      );
    }
  }

  override forward(x: Tensor): Tensor {
    return this.domains.at(this.#domain).forward(x);
  }
}

interface Affine {
  weight: Parameter | null;
  bias: Parameter | null;
}

function domainNormsOf(model: AnyModule, domain: number, what: string): DomainBatchNorm[] {
  const norms = model.modules().filter((module) => module instanceof DomainBatchNorm);
  if (norms.length === 0) {
    throw new InvalidArgumentError(
      `${what}: ${model.constructor.name} has no domain-specific batch norm; convert its norms first`,
    );
  }
  for (const norm of norms) norm.checkDomain(domain);
  return norms;
}

/**
 * Chooses the domain of every {@link DomainBatchNorm} of a model, from now on.
 *
 * @throws InvalidArgumentError if the model has none, or one of them has no such domain, before anything changes
 */
export function setDomain(model: AnyModule, domain: number): void {
  for (const norm of domainNormsOf(model, domain, 'setDomain')) norm.domain = domain;
}

/**
 * Runs `body` with the domain of every {@link DomainBatchNorm} of a model chosen, and gives back the domains that were in use before, also
 * when it throws.
 *
 * ```ts
 * const loss = criterion(model.forward(clean)).add(withDomain(model, 1, () => criterion(model.forward(adversarial))));
 * ```
 *
 * @param body synchronous: code that awaits would let others run in its domain
 * @returns what `body` returns
 * @throws InvalidArgumentError if the model has none, or one of them has no such domain
 */
export function withDomain<T>(model: AnyModule, domain: number, body: () => T): T {
  const norms = domainNormsOf(model, domain, 'withDomain');
  const before = norms.map((norm) => norm.domain);
  try {
    for (const norm of norms) norm.domain = domain;
    return body();
  } finally {
    norms.forEach((norm, index) => (norm.domain = before[index]!));
  }
}
