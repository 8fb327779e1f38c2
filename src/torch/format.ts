/** Tensors as text, in PyTorch's form, and as JSON. */
import { InvalidArgumentError } from './errors';
import { exponential, fixed, mostDigits } from './number-text';
import { ops } from './operators';
import { scope } from './scope';
import type { JsonValue } from './state';
import type { Tensor } from './tensor';
import { nest } from './typed-arrays';
import type { DType, Layout, TypedArray } from './types';

/** How tensors become text. */
export interface PrintOptions {
  /** Digits after the decimal point. Default: 4. */
  precision: number;
  /** Tensors of more elements show only the first and last entries of long dimensions. Default: 1000. */
  threshold: number;
  /** How many entries those are at either end. Default: 3. */
  edgeItems: number;
  /** Characters a line. Default: 80. */
  lineWidth: number;
  /** Whether floating-point numbers are written as 1.0000e+00; null leaves the choice to their range. Default: null. */
  sciMode: boolean | null;
}

/** What {@link setPrintOptions} takes. */
export interface PrintChanges extends Partial<PrintOptions> {
  /** Options to begin with: the defaults, `'short'` (precision 2, two edge items) or `'full'` (every element is shown). */
  profile?: 'default' | 'short' | 'full';
}

const defaults: PrintOptions = { precision: 4, threshold: 1000, edgeItems: 3, lineWidth: 80, sciMode: null };

const profiles: Record<'default' | 'short' | 'full', PrintOptions> = {
  default: defaults,
  short: { ...defaults, precision: 2, edgeItems: 2 },
  full: { ...defaults, threshold: Infinity },
};

let settings = defaults;

const isWhole = (value: unknown, least: number, most = Infinity): boolean =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most;

/** What each option must be, in words and as a test. */
const rules: Record<keyof PrintOptions, readonly [string, (value: unknown) => boolean]> = {
  precision: [`a whole number from 0 to ${String(mostDigits)}`, (value) => isWhole(value, 0, mostDigits)],
  threshold: ['a number from 0', (value) => typeof value === 'number' && value >= 0],
  edgeItems: ['a whole number from 0', (value) => isWhole(value, 0)],
  lineWidth: ['a whole number from 1', (value) => isWhole(value, 1)],
  sciMode: ['true, false or null', (value) => value === null || typeof value === 'boolean'],
};

/**
 * Sets how tensors become text from here on, in `toString()` and `console.log`. What is left out stays as it is;
 * `{ profile: 'default' }` brings back the defaults.
 *
 * @throws InvalidArgumentError for an unknown option or a value that makes no sense; nothing changes then
 */
export function setPrintOptions(changes: PrintChanges): void {
  const { profile, ...given } = changes;
  if (profile !== undefined && !Object.hasOwn(profiles, profile)) {
    throw new InvalidArgumentError(`profile is one of ${Object.keys(profiles).join(', ')}, not ${String(profile)}`);
  }
  const changed = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [name, value] of changed) {
    if (!Object.hasOwn(rules, name)) {
      throw new InvalidArgumentError(`${name} is no print option; they are profile, ${Object.keys(rules).join(', ')}`);
    }
    const [words, isRight] = rules[name as keyof PrintOptions];
    if (!isRight(value)) throw new InvalidArgumentError(`${name} is ${words}, not ${String(value)}`);
  }
  settings = { ...(profile === undefined ? settings : profiles[profile]), ...Object.fromEntries(changed) };
}

const opening = 'tensor(';

/** @internal A tensor's text. */
export function formatTensor(tensor: Tensor): string {
  if (tensor.isDisposed) return 'Tensor(disposed)';
  const { name } = tensor.constructor;
  const title = name === 'Tensor' ? '' : `${name} containing:\n`;
  const { body, notes, startsLine } = describe(tensor);
  const { gradFn } = tensor;
  if (gradFn !== null) notes.push(`grad_fn=<${gradFn}>`);
  else if (tensor.requiresGrad) notes.push('requires_grad=True');
  return `${title}${addNotes(opening + body, notes, startsLine)})`;
}

/** @internal A tensor's text among the members of another object, whose further lines Node indents. */
export function formatMember(tensor: Tensor): string {
  const text = formatTensor(tensor);
  // Rows that start on a line of their own stand below each other, whatever is written before them.
  const indent = `\n${' '.repeat(opening.length)}`;
  return text.includes(indent) ? text.replaceAll(indent, '\n  ').replace(opening, `${opening}\n  `) : text;
}

/** @internal A tensor in a few words, where there is no room for its elements. */
export function summarizeTensor(tensor: Tensor): string {
  if (tensor.isDisposed) return 'Tensor(disposed)';
  const { shape, dtype, device } = tensor;
  return `${tensor.constructor.name} [${shape.join(', ')}] ${dtype}${device === 'cpu' ? '' : ` ${device}`}`;
}

/** @internal A tensor's elements as JSON has them. */
export function tensorToJson(tensor: Tensor): JsonValue {
  const toJson = (value: unknown): JsonValue => {
    if (Array.isArray(value)) return value.map(toJson);
    if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
    if (typeof value === 'number') return Number.isFinite(value) ? value : null;
    return value as boolean;
  };
  return toJson(nest(tensor.dataSync(), tensor.shape, tensor.dtype));
}

/** What stands between `tensor(` and `)`. */
interface Description {
  body: string;
  /** What follows the body, after commas. */
  notes: string[];
  /** Whether the first note starts a line. */
  startsLine: boolean;
}

/** The dtypes that numbers and booleans have of themselves: the elements show them. */
const plainDTypes = new Set<DType>(['float32', 'complex64', 'int64', 'bool']);

/** The dtypes whose elements cannot be read one by one. */
const opaqueDType = /^(bits|q|u?int[1-7]$|float4)/;

function describe(tensor: Tensor): Description {
  const { shape, dtype, device } = tensor;
  const size = `size=${tuple(shape)}`;
  const deviceNote = device === 'cpu' ? [] : [`device='${device}'`];
  const dtypeNote = plainDTypes.has(dtype) ? [] : [`dtype=torch.${dtype}`];
  // Without elements nothing shows integers, booleans and complex numbers either.
  const bareDTypeNote = dtype === 'float32' ? [] : [`dtype=torch.${dtype}`];
  const dense = (body: string, ...notes: readonly string[][]): Description => ({
    body,
    notes: [...deviceNote, ...notes.flat()],
    startsLine: false,
  });
  if (device === 'meta' || opaqueDType.test(dtype)) return dense('...', [size], bareDTypeNote);
  const { layout } = tensor;
  if (layout !== 'strided' && layout !== 'mkldnn') {
    const { body, storedCount } = formatSparse(tensor, layout);
    const notes = [...deviceNote, size, `nnz=${String(storedCount)}`, ...dtypeNote, `layout=torch.${layout}`];
    return { body, notes, startsLine: layout === 'sparse_coo' };
  }
  const count = tensor.numel();
  if (count === 0) return dense('[]', shape.length === 1 ? [] : [size], bareDTypeNote);
  const sizeNote = hidesAll(count) ? [size] : [];
  if (layout === 'strided') return dense(formatElements(tensor, opening.length), sizeNote, dtypeNote);
  const body = scope(() => formatElements(tensor.toDense(), opening.length));
  return dense(body, sizeNote, dtypeNote, ['layout=torch._mkldnn']);
}

function tuple(shape: readonly number[]): string {
  return `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
}

function addNotes(text: string, notes: readonly string[], startsLine: boolean): string {
  // As PyTorch counts: two more characters than the last line has.
  let width = text.length - text.lastIndexOf('\n') + 1;
  for (const [i, note] of notes.entries()) {
    if ((i === 0 && startsLine) || width + note.length + 2 > settings.lineWidth) {
      text += `,\n${' '.repeat(opening.length)}${note}`;
      width = opening.length + note.length;
    } else {
      text += `, ${note}`;
      width += note.length + 2;
    }
  }
  return text;
}

/** Operators that are no methods. */
interface SparseOperators {
  _nnz(tensor: Tensor): number;
  _indices(tensor: Tensor): Tensor;
  _values(tensor: Tensor): Tensor;
}

const aten = (): SparseOperators => (ops as unknown as { aten: SparseOperators }).aten;

function formatSparse(tensor: Tensor, layout: Layout): { body: string; storedCount: number } {
  return scope(() => {
    const plain = tensor.detach();
    const { _indices: indices, _values: values, _nnz: countStored } = aten();
    const parts =
      layout === 'sparse_coo'
        ? { indices: indices(plain), values: values(plain) }
        : layout === 'sparse_csr' || layout === 'sparse_bsr'
          ? { crow_indices: plain.crowIndices(), col_indices: plain.colIndices(), values: plain.values() }
          : { ccol_indices: plain.ccolIndices(), row_indices: plain.rowIndices(), values: plain.values() };
    const texts = Object.entries(parts).map(([name, part]) => {
      const start = `${name}=${opening}`;
      const isEmpty = part.numel() === 0;
      return `${start}${isEmpty ? `[], size=${tuple(part.shape)}` : formatElements(part, opening.length + start.length)})`;
    });
    return { body: texts.join(`,\n${' '.repeat(opening.length)}`), storedCount: countStored(plain) };
  });
}

/** Whether a tensor of so many elements shows some of them only. */
const isCut = (count: number): boolean => count > settings.threshold;

/** Whether it shows none. */
const hidesAll = (count: number): boolean => isCut(count) && settings.edgeItems === 0;

/** The elements in brackets; lines after the first are indented. */
function formatElements(tensor: Tensor, indent: number): string {
  if (hidesAll(tensor.numel())) return '[...]';
  const { elements, sizes, isLong, dtype } = readShown(tensor);
  const { texts, width } = elementTexts(elements, dtype);
  const last = sizes.length - 1;
  if (last < 0) return texts[0]!;
  const perLine = Math.max(1, Math.floor((settings.lineWidth - indent - last) / (width + 2)));
  let next = 0;
  const level = (dimension: number, column: number): string => {
    const isRow = dimension === last;
    const parts = Array.from({ length: sizes[dimension]! }, () =>
      isRow ? texts[next++]! : level(dimension + 1, column + 1),
    );
    if (isLong[dimension]) parts.splice(settings.edgeItems, 0, isRow ? ' ...' : '...');
    const lines = isRow ? joinRuns(parts, perLine) : parts;
    return `[${lines.join(`,${'\n'.repeat(Math.max(1, last - dimension))}${' '.repeat(column)}`)}]`;
  };
  return level(0, indent + 1);
}

/** Joins each run of so many texts. */
function joinRuns(texts: readonly string[], length: number): string[] {
  const runs: string[] = [];
  for (let i = 0; i < texts.length; i += length) runs.push(texts.slice(i, i + length).join(', '));
  return runs;
}

/** The elements that a text shows. */
interface Shown {
  /** In row-major order; complex numbers are pairs. */
  elements: TypedArray;
  dtype: DType;
  /** How many there are along each dimension. */
  sizes: number[];
  /** Whether entries in the middle of a dimension are left out. */
  isLong: boolean[];
}

/** Reads the elements to show and no others: a tensor may be large, on a device, or an expanded view that fits no memory. */
function readShown(tensor: Tensor): Shown {
  const { edgeItems } = settings;
  const { shape } = tensor;
  const isLong = shape.map((size) => isCut(tensor.numel()) && size > 2 * edgeItems);
  return scope(() => {
    let view = tensor.detach();
    // For each long dimension a window of entries at either end: two places along the dimension, and a new last dimension.
    const order: number[] = [];
    for (const [dimension, size] of shape.entries()) {
      order.push(dimension);
      if (!isLong[dimension]) continue;
      order.push(view.ndim);
      view = view.unfold(dimension, edgeItems, size - edgeItems);
    }
    view = view.permute(order);
    // No typed array holds its parts.
    if (view.dtype === 'complex32') view = view.to('complex64');
    const sizes = shape.map((size, dimension) => (isLong[dimension] ? 2 * edgeItems : size));
    return { elements: view.dataSync(), dtype: view.dtype, sizes, isLong };
  });
}

/** Elements as texts, and the width that lines are planned with. */
function elementTexts(elements: TypedArray, dtype: DType): { texts: string[]; width: number } {
  if (dtype.startsWith('complex')) {
    const numbers = elements as Float32Array | Float64Array;
    const real = numberTexts(numbers.filter((_, i) => i % 2 === 0));
    const imaginary = numberTexts(numbers.filter((_, i) => i % 2 === 1));
    const texts = real.texts.map((text, i) => {
      const other = imaginary.texts[i]!.trimStart();
      return `${text}${other.startsWith('-') ? '' : '+'}${other}j`;
    });
    return { texts, width: real.width + imaginary.width + 1 };
  }
  if (elements instanceof Float32Array || elements instanceof Float64Array) return numberTexts(elements);
  const textOf = (element: number | bigint): string =>
    dtype === 'bool' ? (element ? 'True' : 'False') : String(element);
  const texts = Array.from<number | bigint, string>(elements, textOf);
  return pad(texts, longest(texts));
}

function pad(texts: readonly string[], width: number): { texts: string[]; width: number } {
  return { texts: texts.map((text) => text.padStart(width)), width };
}

function longest(texts: readonly string[]): number {
  return texts.reduce((most, { length }) => Math.max(most, length), 0);
}

/** Floating-point numbers in the one form that suits them all. */
function numberTexts(numbers: Float32Array | Float64Array): { texts: string[]; width: number } {
  const { precision, sciMode } = settings;
  // Zeros and what is not finite decide nothing.
  const deciding = Array.from(numbers).filter((number) => Number.isFinite(number) && number !== 0);
  const areWhole = deciding.every((number) => Number.isInteger(number));
  let [least, most] = [Infinity, 0];
  for (const number of deciding) {
    least = Math.min(least, Math.abs(number));
    most = Math.max(most, Math.abs(number));
  }
  const isWide = most / least > 1000 || most > 1e8 || (!areWhole && least < 1e-4);
  const isScientific = deciding.length > 0 && (sciMode ?? isWide);
  const textOf = (number: number): string => {
    if (isScientific) return exponential(number, precision);
    if (!areWhole) return fixed(number, precision);
    return `${fixed(number, 0)}${Number.isFinite(number) ? '.' : ''}`;
  };
  return pad(Array.from(numbers, textOf), Math.max(1, longest(deciding.map(textOf))));
}
