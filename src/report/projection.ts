import { setImmediate } from 'node:timers/promises';

import { InvalidArgumentError } from '../torch/errors';

/** Options of {@link projectTwoDimensional}. */
export interface ProjectionOptions {
  /** Seed of the random numbers; the same seed and features give the same points. Default 0. */
  seed?: number;
  /**
   * `'umap'` keeps neighbourhoods together, `'pca'` shows the two directions of largest variance. Default `'umap'`.
   */
  method?: 'umap' | 'pca';
  /** UMAP: neighbours of each point that are to stay near it; fewer where there are fewer points. Default 15. */
  neighbours?: number;
  /** UMAP: how close together points may lie, in units of the plane. Default 0.4, so that groups fill their area. */
  minimumDistance?: number;
}

/** The event loop gets its turn after this many milliseconds of calculation. */
const sliceMilliseconds = 40;

/** Rounds of the layout; the library's own default of 500 changes pictures of this size no more. */
const layoutEpochs = 300;

/**
 * Lays features out in the plane so that what is similar lies together.
 *
 * The features are scaled to length 1 first, because cosine similarity is what contrastive training shapes. UMAP then
 * starts from the two principal components, which keeps the arrangement of the groups stable, and from the exact
 * nearest neighbours: for the few thousand points of a picture these cost less than an approximate search. 2,000 points of 128
 * dimensions take a few seconds. The event loop stays free in between.
 *
 * The method: L. McInnes, J. Healy, J. Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
 * Reduction", arXiv:1802.03426.
 *
 * @param features the features of one point after another, `count * dimension` finite values
 * @returns one `[x, y]` a point, in the order of the features; the axes have no unit
 * @throws InvalidArgumentError when the features do not have that many values, or hold one that is not finite
 */
export async function projectTwoDimensional(
  features: Float32Array,
  count: number,
  dimension: number,
  options: ProjectionOptions = {},
): Promise<[x: number, y: number][]> {
  const { seed = 0, method = 'umap', neighbours = 15, minimumDistance = 0.4 } = options;
  checkArguments(features, count, dimension, { seed, method, neighbours, minimumDistance });
  if (count === 0) return [];
  const random = seededRandom(seed);
  const unit = normalizeRows(features, count, dimension);
  const breathe = breather();
  const principal = await principalComponents(unit, count, dimension, random, breathe);
  const neighboursUsed = Math.min(neighbours, count - 1);
  if (method === 'pca' || neighboursUsed < 2) return principal;

  const { UMAP } = await import('umap-js');
  const umap = new UMAP({ nNeighbors: neighboursUsed, minDist: minimumDistance, nEpochs: layoutEpochs, random });
  const { indices, distances } = await nearestNeighbours(unit, count, dimension, neighboursUsed, breathe);
  umap.setPrecomputedKNN(indices, distances);
  // The neighbours are given, so that the library needs the number of points only, not their values.
  const epochs = umap.initializeFit(Array.from({ length: count }, () => []));
  const embedding = umap.getEmbedding();
  const start = spreadOut(principal);
  embedding.forEach((point, index) => {
    [point[0], point[1]] = start[index]!;
  });
  while (umap.step() < epochs) await breathe();
  return embedding.map((point) => [point[0]!, point[1]!]);
}

function checkArguments(
  features: Float32Array,
  count: number,
  dimension: number,
  { seed, method, neighbours, minimumDistance }: Required<ProjectionOptions>,
): void {
  if (!Number.isInteger(count) || !Number.isInteger(dimension) || count < 0 || dimension < 1) {
    throw new InvalidArgumentError(`Cannot project ${count} points of ${dimension} dimensions.`);
  }
  if (features.length !== count * dimension) {
    throw new InvalidArgumentError(
      `The features have ${features.length} values, but ${count} points of ${dimension} dimensions ` +
        `need ${count * dimension}.`,
    );
  }
  const bad = features.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new InvalidArgumentError(
      `The features of point ${Math.floor(bad / dimension)} hold ${features[bad]}: only finite features can be projected.`,
    );
  }
  if (!Number.isSafeInteger(seed)) throw new InvalidArgumentError(`The seed is ${seed}: it must be a whole number.`);
  if (method !== 'umap' && method !== 'pca') {
    throw new InvalidArgumentError(`There is no projection method ${JSON.stringify(method)}: choose 'umap' or 'pca'.`);
  }
  if (!Number.isInteger(neighbours) || neighbours < 2) {
    throw new InvalidArgumentError(`neighbours is ${neighbours}: UMAP needs a whole number of at least 2.`);
  }
  if (!(minimumDistance >= 0 && minimumDistance < 1)) {
    throw new InvalidArgumentError(`minimumDistance is ${minimumDistance}: give a number from 0 to below 1.`);
  }
}

/** Uniform numbers in [0, 1) by the 32-bit xorshift generator (G. Marsaglia, "Xorshift RNGs", 2003). */
function seededRandom(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b) ^ 0x2545f491;
  if (state === 0) state = 0x6c078965;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  // Neighbouring seeds begin with similar numbers; they have parted after a few.
  for (let skipped = 0; skipped < 16; skipped++) next();
  return next;
}

function breather(): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < sliceMilliseconds) return;
    await setImmediate();
    last = performance.now();
  };
}

/** Rows of length 1; a row of zeros stays as it is. */
function normalizeRows(features: Float32Array, count: number, dimension: number): Float64Array {
  const unit = new Float64Array(features.length);
  for (let row = 0; row < count; row++) {
    const start = row * dimension;
    let squares = 0;
    for (let column = 0; column < dimension; column++) squares += features[start + column]! ** 2;
    const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
    for (let column = 0; column < dimension; column++) unit[start + column] = features[start + column]! * scale;
  }
  return unit;
}

/** Coordinates along the two directions of largest variance, found by power iteration with deflation. */
async function principalComponents(
  unit: Float64Array,
  count: number,
  dimension: number,
  random: () => number,
  breathe: () => Promise<void>,
): Promise<[number, number][]> {
  const mean = new Float64Array(dimension);
  for (let index = 0; index < unit.length; index++) mean[index % dimension]! += unit[index]! / count;
  const directions: Float64Array[] = [];
  const coordinates: Float64Array[] = [];
  for (let component = 0; component < 2; component++) {
    let direction = Float64Array.from({ length: dimension }, () => random() - 0.5);
    let along = new Float64Array(count);
    for (let iteration = 0; iteration < 40; iteration++) {
      for (const other of directions) removePart(direction, other);
      const length = Math.sqrt(direction.reduce((sum, value) => sum + value * value, 0));
      // With a single dimension, or equal points, nothing is left: every coordinate is then 0.
      direction = direction.map((value) => (length > 1e-12 ? value / length : 0));
      along = new Float64Array(count);
      const next = new Float64Array(dimension);
      for (let row = 0; row < count; row++) {
        const start = row * dimension;
        let dot = 0;
        for (let column = 0; column < dimension; column++) {
          dot += (unit[start + column]! - mean[column]!) * direction[column]!;
        }
        along[row] = dot;
        for (let column = 0; column < dimension; column++) {
          next[column]! += dot * (unit[start + column]! - mean[column]!);
        }
      }
      if (iteration < 39) direction = next;
      await breathe();
    }
    directions.push(direction);
    coordinates.push(along);
  }
  return Array.from({ length: count }, (_, row) => [coordinates[0]![row]!, coordinates[1]![row]!]);
}

function removePart(vector: Float64Array, direction: Float64Array): void {
  let dot = 0;
  for (let index = 0; index < vector.length; index++) dot += vector[index]! * direction[index]!;
  for (let index = 0; index < vector.length; index++) vector[index]! -= dot * direction[index]!;
}

/** The layout starts in a square from -10 to 10, as UMAP's own random start does. */
function spreadOut(points: readonly [number, number][]): [number, number][] {
  let largest = 0;
  for (const [x, y] of points) largest = Math.max(largest, Math.abs(x), Math.abs(y));
  const scale = largest > 0 ? 10 / largest : 0;
  // Equal points would never part; the golden angle places every index elsewhere on a tiny circle.
  return points.map(([x, y], index) => [
    x * scale + 1e-3 * Math.cos(index * 2.399963),
    y * scale + 1e-3 * Math.sin(index * 2.399963),
  ]);
}

/** For each row its nearest rows by cosine distance, 1 - similarity, nearest first; the first is the row itself. */
async function nearestNeighbours(
  unit: Float64Array,
  count: number,
  dimension: number,
  wanted: number,
  breathe: () => Promise<void>,
): Promise<{ indices: number[][]; distances: number[][] }> {
  const indices: number[][] = [];
  const distances: number[][] = [];
  for (let row = 0; row < count; row++) {
    const nearest: number[] = [row];
    const away: number[] = [0];
    for (let other = 0; other < count; other++) {
      if (other === row) continue;
      const distance = Math.max(0, 1 - dotProduct(unit, row * dimension, other * dimension, dimension));
      if (nearest.length === wanted && distance >= away[wanted - 1]!) continue;
      let place = nearest.length;
      while (place > 1 && away[place - 1]! > distance) place--;
      nearest.splice(place, 0, other);
      away.splice(place, 0, distance);
      if (nearest.length > wanted) {
        nearest.pop();
        away.pop();
      }
    }
    indices.push(nearest);
    distances.push(away);
    await breathe();
  }
  return { indices, distances };
}

/** The inner product of two rows; four running sums keep the additions from waiting for each other. */
function dotProduct(values: Float64Array, first: number, second: number, length: number): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let index = 0;
  for (; index + 3 < length; index += 4) {
    a += values[first + index]! * values[second + index]!;
    b += values[first + index + 1]! * values[second + index + 1]!;
    c += values[first + index + 2]! * values[second + index + 2]!;
    d += values[first + index + 3]! * values[second + index + 3]!;
  }
  for (; index < length; index++) a += values[first + index]! * values[second + index]!;
  return a + b + c + d;
}
