/** What clustering shares: checked points, and nearest centroids a block of rows at a time. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';

/** Distances that are held at once. */
export const DISTANCES_AT_ONCE = 1 << 22;

/**
 * The points as they are clustered: detached, half precision widened to float32, and of length one if `spherical`.
 *
 * @throws InvalidArgumentError naming `what`, unless they are [N, D] of a floating-point dtype with N, D ≥ 1 and all finite
 */
export function checkedPoints(points: Tensor, what: string, spherical: boolean, dimension?: number): Tensor {
  if (points.ndim !== 2 || !points.isFloatingPoint() || points.shape.includes(0)) {
    throw new InvalidArgumentError(
      `${what} must be floating-point [N, D] with N and D at least 1, found ${points.dtype} [${points.shape.join(', ')}]`,
    );
  }
  if (dimension !== undefined && points.shape[1] !== dimension) {
    throw new InvalidArgumentError(`${what} must have ${dimension} columns, found ${points.shape[1]}`);
  }
  return noGrad(() =>
    scope(() => {
      const wide = ['float32', 'float64'].includes(points.dtype) ? points.detach() : points.to({ dtype: 'float32' });
      if (!wide.isfinite().all().itemSync()) {
        throw new InvalidArgumentError(`${what} must be finite, found NaN or infinity`);
      }
      return spherical ? functional.normalize(wide) : wide;
    }),
  );
}

/** How many rows of N fit a block when each row has `width` values. */
export function rowsAtOnce(width: number, atOnce: number): number {
  return Math.max(1, Math.floor(atOnce / width));
}

/**
 * The nearest of the centroids for each point, and the squared distance to it: of several equally near the first.
 *
 * Which one is nearest comes from |c|² − 2 x·c with everything moved by `origin`, so that points far from zero lose no digits; the
 * distance itself is summed from the differences.
 */
export function nearest(points: Tensor, centroids: Tensor, atOnce: number): { assignments: Tensor; distances: Tensor } {
  return scope(() => {
    const origin = centroids.mean([0]);
    const moved = centroids.sub(origin);
    const squares = moved.square().sum([1]);
    const transposed = moved.t().mul(-2);
    const parts = points.split(rowsAtOnce(Math.max(centroids.sizeOf(0), points.sizeOf(1)), atOnce)).map((rows) =>
      scope((): [Tensor, Tensor] => {
        const chosen = torch.addmm(squares, rows.sub(origin), transposed).argmin(1);
        return [chosen, rows.sub(centroids.indexSelect(0, chosen)).square().sum([1])];
      }),
    );
    return {
      assignments: torch.cat(parts.map(([chosen]) => chosen)),
      distances: torch.cat(parts.map(([, distance]) => distance)),
    };
  });
}

/**
 * The sum of the points of each cluster in float64 [K, D]. In one order each time: adding by index is so on the CPU, and on CUDA where
 * values are put with accumulation, which sorts.
 */
export function clusterSums(points: Tensor, assignments: Tensor, clusters: number, atOnce: number): Tensor {
  return scope(() => {
    const sums = torch.zeros([clusters, points.sizeOf(1)], { dtype: 'float64', device: points.device });
    const rows = rowsAtOnce(points.sizeOf(1), atOnce);
    const chosen = assignments.split(rows);
    points.split(rows).forEach((part, index) =>
      scope(() => {
        const values = part.to({ dtype: 'float64' });
        if (points.device === 'cpu') sums.indexAdd_(0, chosen[index]!, values);
        else sums.indexPut_([chosen[index]!], values, true);
      }),
    );
    return sums;
  });
}

/** The assignments with each empty cluster given one of the points that are furthest from their centroids. */
export function withoutEmpty(assignments: Tensor, distances: Tensor, clusters: number): Tensor {
  return scope(() => {
    const counts = Float64Array.from(assignments.bincount({ minlength: clusters }).dataSync() as BigInt64Array, Number);
    const empty = Array.from(counts.keys()).filter((cluster) => counts[cluster] === 0);
    if (empty.length === 0) return assignments.clone();
    // The furthest may stand alone in their clusters, which would then be empty: hence twice as many.
    const [furthest, rows] = distances.topk(Math.min(distances.sizeOf(0), 2 * empty.length));
    const owners = Array.from(assignments.indexSelect(0, rows).dataSync() as BigInt64Array, Number);
    const far = furthest.dataSync() as Float32Array | Float64Array;
    const moves: { place: number; cluster: number }[] = [];
    owners.forEach((owner, place) => {
      const cluster = empty[moves.length];
      if (cluster === undefined || counts[owner]! < 2 || !(far[place]! > 0)) return;
      counts[owner]!--;
      moves.push({ place, cluster });
    });
    const placed = (of: number[]) => torch.tensor(of, { dtype: 'int64', device: assignments.device });
    if (moves.length === 0) return assignments.clone();
    const moving = rows.indexSelect(0, placed(moves.map(({ place }) => place)));
    return assignments.indexCopy(0, moving, placed(moves.map(({ cluster }) => cluster)));
  });
}
