/** Tensors as text. */
import type { Tensor } from './tensor';
import type { NestedArray } from './types';

/** Dimensions longer than twice this show only their first and last entries. */
const edge = 3;
const mostElements = 1000;

/** @internal */
export function formatTensor(tensor: Tensor): string {
  if (tensor.isDisposed) return 'Tensor(disposed)';
  const { shape, dtype, device } = tensor;
  const facts = `shape [${shape.join(', ')}], ${dtype}${device === 'cpu' ? '' : `, ${device}`}`;
  if (device === 'meta') return `Tensor(${facts})`;
  const shorten = tensor.numel() > mostElements;
  return `Tensor(${formatValues(tensor, shorten, '')}, ${facts})`;
}

function formatValues(tensor: Tensor, shorten: boolean, indent: string): string {
  const { ndim } = tensor;
  if (ndim === 0) return formatElement(tensor.toArraySync());
  const size = tensor.sizeOf(0);
  const positions = Array.from({ length: size }, (_, i) => i);
  const isCut = shorten && size > 2 * edge;
  const shown = isCut ? [...positions.slice(0, edge), ...positions.slice(size - edge)] : positions;
  const parts =
    ndim === 1
      ? readRow(tensor, shown)
      : shown.map((i) => {
          const part = tensor.at(i);
          const text = formatValues(part, shorten, `${indent} `);
          part.dispose();
          return text;
        });
  if (isCut) parts.splice(edge, 0, '...');
  return `[${parts.join(ndim === 1 ? ', ' : `,\n ${indent}`)}]`;
}

function readRow(row: Tensor, shown: readonly number[]): string[] {
  const elements = row.toArraySync() as readonly NestedArray[];
  return shown.map((i) => formatElement(elements[i]!));
}

function formatElement(element: NestedArray): string {
  if (typeof element === 'number') return Number.isInteger(element) ? String(element) : element.toPrecision(5);
  if (typeof element === 'object') {
    const [real, imaginary] = element as readonly [number, number];
    return `${formatElement(real)}${imaginary < 0 ? '-' : '+'}${formatElement(Math.abs(imaginary))}i`;
  }
  return String(element);
}
