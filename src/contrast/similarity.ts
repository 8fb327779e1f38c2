import { InvalidArgumentError, type Tensor } from '../torch';
import { functional } from '../nn';

/** How alike two embeddings are: the cosine of their angle, or their dot product. */
export type Similarity = 'cosine' | 'dot';

/**
 * The similarity of every row of `a` with every row of `b`.
 *
 * @param a [N, D]
 * @param b [M, D]
 * @param similarity default `'cosine'`
 * @returns [N, M]
 */
export function similarityMatrix(a: Tensor, b: Tensor, similarity: Similarity = 'cosine'): Tensor {
  checkEmbeddings(a, 'a');
  checkEmbeddings(b, 'b', a.sizeOf(1));
  const [x, y] = similarity === 'cosine' ? [functional.normalize(a), functional.normalize(b)] : [a, b];
  return x.matmul(y.t());
}

/**
 * The similarity of each row of `a` with the row of `b` at the same position.
 *
 * @param a [N, D]
 * @param b [N, D]
 * @param similarity default `'cosine'`
 * @returns [N]
 */
export function pairedSimilarity(a: Tensor, b: Tensor, similarity: Similarity = 'cosine'): Tensor {
  checkEmbeddings(a, 'a');
  checkEmbeddings(b, 'b', a.sizeOf(1), a.sizeOf(0));
  const [x, y] = similarity === 'cosine' ? [functional.normalize(a), functional.normalize(b)] : [a, b];
  return x.mul(y).sum([1]);
}

/**
 * Checks that `x` is a matrix of embeddings, one a row.
 *
 * @throws InvalidArgumentError naming `what` unless it is floating-point and [rows, dimension], neither of them 0
 */
export function checkEmbeddings(x: Tensor, what: string, dimension?: number, rows?: number): void {
  const expected = `[${rows ?? 'N'}, ${dimension ?? 'D'}]`;
  const found = `[${x.shape.join(', ')}]`;
  if (x.ndim !== 2 || x.sizeOf(1) !== (dimension ?? x.sizeOf(1)) || x.sizeOf(0) !== (rows ?? x.sizeOf(0))) {
    throw new InvalidArgumentError(`${what}: expected shape ${expected}, found ${found}`);
  }
  if (x.numel() === 0) throw new InvalidArgumentError(`${what}: there are no embeddings, its shape is ${found}`);
  if (!x.isFloatingPoint())
    throw new InvalidArgumentError(`${what}: expected a floating-point dtype, found ${x.dtype}`);
}
