import { functional } from '../../../src/nn';
import { dispose, scope, torch, type Tensor } from '../../../src/torch';

/** Numbers that look random, the same in every language: see peer.py. */
export function embeddings(rows: number, dimension: number, from: number): Tensor {
  const parts: Tensor[] = [];
  for (let start = 0; start < rows; start += 100_000) {
    const size = Math.min(100_000, rows - start);
    parts.push(
      scope(() => {
        const first = (from + start) * dimension;
        const places = torch.arange(first, first + size * dimension, { dtype: 'float64' });
        const noise = places.mul(12.9898).sin().mul(43758.5453);
        const centred = noise.sub(noise.floor()).sub(0.5);
        return functional.normalize(centred.reshape([size, dimension])).to('float32');
      }),
    );
  }
  const whole = torch.cat(parts);
  dispose(...parts);
  return whole;
}
