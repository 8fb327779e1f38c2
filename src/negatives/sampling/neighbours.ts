/** The nearest rows of each row, a block of rows at a time. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkedPoints, DISTANCES_AT_ONCE, rowsAtOnce } from '../clustering/points';

/**
 * The `count` rows of a gallery that are most similar to each query by cosine, the most similar first, without row i itself for query i.
 *
 * @param queries floating-point [N, D]
 * @param gallery [N, D]; row i belongs to query i
 * @returns int64 [N, count]
 */
export function nearestBySimilarity(queries: Tensor, gallery: Tensor, count: number, what: string): Tensor {
  if (queries.shape.join() !== gallery.shape.join() || queries.device !== gallery.device) {
    throw new InvalidArgumentError(
      `${what}: queries and gallery must have one shape and device, found [${queries.shape.join(', ')}] on ${queries.device} and ` +
        `[${gallery.shape.join(', ')}] on ${gallery.device}`,
    );
  }
  return withoutAutocast(queries, () =>
    noGrad(() =>
      scope(() => {
        const rows = functional.normalize(checkedPoints(queries, `${what}: queries`, false));
        const all = functional.normalize(checkedPoints(gallery, `${what}: gallery`, false)).to({ dtype: rows.dtype });
        return largest(rows.sizeOf(0), count, (from, to) => rows.narrow(0, from, to - from).matmul(all.t()), queries);
      }),
    ),
  );
}

/**
 * The `count` rows that lie nearest on the globe to each row, the nearest first, without the row itself.
 *
 * @param coordinates floating-point [N, 2]: latitude and longitude in degrees
 * @returns int64 [N, count]
 */
export function nearestOnGlobe(coordinates: Tensor, count: number, what: string): Tensor {
  return withoutAutocast(coordinates, () =>
    noGrad(() =>
      scope(() => {
        const degrees = checkedPoints(coordinates, `${what}: coordinates`, false, 2);
        const angles = degrees.to({ dtype: 'float64' }).mul(Math.PI / 180);
        const [latitude, longitude] = [angles.select(1, 0), angles.select(1, 1)];
        // Points of the unit sphere: the longer the chord, the longer the way over the ground, near poles and the date line too.
        const points = torch.stack(
          [latitude.cos().mul(longitude.cos()), latitude.cos().mul(longitude.sin()), latitude.sin()],
          1,
        );
        const near = (from: number, to: number) => torch.cdist(points.narrow(0, from, to - from), points, 2, 2).neg();
        return largest(points.sizeOf(0), count, near, coordinates);
      }),
    ),
  );
}

/** The columns of the `count` largest scores of each row, without the diagonal. */
function largest(size: number, count: number, scores: (from: number, to: number) => Tensor, like: Tensor): Tensor {
  const step = rowsAtOnce(size, DISTANCES_AT_ONCE);
  const parts: Tensor[] = [];
  for (let from = 0; from < size; from += step) {
    const to = Math.min(from + step, size);
    parts.push(
      scope(() => {
        const own = torch.arange(from, to, { dtype: 'int64', device: like.device }).unsqueeze(1);
        return scores(from, to).scatter(1, own, -Infinity).topk(count)[1];
      }),
    );
  }
  return torch.cat(parts);
}
