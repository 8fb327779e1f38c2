/** Logarithms of sums of exponentials, of which there may be none: −∞, where LibTorch's own have no gradient. */
import { torch, type Tensor } from '../torch';

/** log(1 + exp(x)), exact for small and large x alike. */
export function softplus(x: Tensor): Tensor {
  return x.neg().logSigmoid().neg();
}

/** log Σ exp(x) along a dimension over the elements that the mask leaves, null for all; −∞, with a gradient of 0, over none. */
export function maskedLogSumExp(x: Tensor, mask: Tensor | null, along: number): Tensor {
  if (mask === null) return x.logsumexp([along]);
  const any = mask.any(along, true);
  const left = x.maskedFill(mask.logicalNot().logicalAnd(any), -Infinity);
  return torch.where(any.squeeze(along), left.logsumexp([along]), x.newZeros([]).sub(Infinity));
}

/** log Σ exp over several logarithms of one shape; −∞, with a gradient of 0, where all are. */
export function addLogarithms(logarithms: readonly Tensor[]): Tensor {
  const stacked = torch.stack([...logarithms]);
  const none = stacked.eq(-Infinity).all(0);
  const zero = stacked.newZeros([]);
  return torch.where(none, zero.sub(Infinity), torch.where(none, zero, stacked).logsumexp([0]));
}

/** What `body` makes of logarithms, 0 where they are −∞; there it sees 0, so that no gradient is lost in what is no number. */
export function whereAny(logarithms: Tensor, body: (safe: Tensor) => Tensor): Tensor {
  const none = logarithms.eq(-Infinity);
  const zero = logarithms.newZeros([]);
  return torch.where(none, zero, body(torch.where(none, zero, logarithms)));
}
