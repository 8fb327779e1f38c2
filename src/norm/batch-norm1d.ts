import { InvalidArgumentError, type Tensor } from '../torch';
import { BatchNorm } from './batch-norm';

/** @throws InvalidArgumentError unless `x` is [N, C] or [N, C, L]. */
export function checkDimensions1d(x: Tensor, layer: string): void {
  if (x.ndim !== 2 && x.ndim !== 3) {
    throw new InvalidArgumentError(`${layer}: expected [N, C] or [N, C, L], found shape [${x.shape.join(', ')}]`);
  }
}

/** {@link BatchNorm} for vectors [N, C] or sequences [N, C, L]. */
export class BatchNorm1d extends BatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions1d(x, this.constructor.name);
  }
}
