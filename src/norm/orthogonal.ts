import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import type { init } from '../nn';

/**
 * Fills a weight [out, in, ...] with a random matrix [out, in · …] whose rows are orthonormal, or whose columns are where there are
 * more rows than columns: the Q of the QR decomposition of a standard normal matrix, its columns signed so that all such
 * matrices are equally likely (Saxe, McClelland and Ganguli 2014, Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear
 * Neural Networks).
 *
 * @param options `gain` (default 1) multiplies the matrix; `generator` gives the random numbers
 * @returns the tensor, filled in place without recording gradients
 * @throws InvalidArgumentError for a tensor of fewer than two dimensions
 */
export function orthogonal_<T extends Tensor>(tensor: T, options: init.RandomOptions & { gain?: number } = {}): T {
  const { gain = 1, generator } = options;
  const [rows = 0, ...rest] = tensor.shape;
  if (rest.length === 0) {
    throw new InvalidArgumentError(
      `orthogonal_ needs a weight of at least two dimensions, found shape [${tensor.shape.join(', ')}]`,
    );
  }
  const columns = rest.reduce((product, size) => product * size, 1);
  noGrad(() => {
    scope(() => {
      const { device } = tensor;
      const dtype = tensor.dtype === 'float64' ? 'float64' : 'float32';
      const size = rows < columns ? [columns, rows] : [rows, columns];
      const normal = torch.randn(size, { generator: generator ?? null, device, dtype });
      const [q, r] = torch.linalgQr(normal);
      const signed = q.mul(r.diagonal().sign());
      tensor.copy_((rows < columns ? signed.t() : signed).mul(gain).reshape(tensor.shape)).dispose();
    });
  });
  return tensor;
}
