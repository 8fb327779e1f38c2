import { InvalidArgumentError, type Tensor } from '../torch';
import { InstanceNorm } from './instance-norm';

/** {@link InstanceNorm} for sequences [N, C, L]. */
export class InstanceNorm1d extends InstanceNorm {
  protected override checkDimensions(x: Tensor): void {
    if (x.ndim !== 3) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected [N, C, L], found shape [${x.shape.join(', ')}]`,
      );
    }
  }
}
