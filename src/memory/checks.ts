/** What memories check before they change. */
import { InvalidArgumentError, noGrad, scope, torch, type Device, type DType, type Tensor } from '../torch';
import { jsonNumber, jsonObject, type JsonObject, type JsonValue, type StateDict } from '../torch/state';
import { integerFrom } from '../nn/checks';

/** A shape as messages show it. */
export const shown = (shape: readonly number[]): string => `[${shape.join(', ')}]`;

/**
 * Checks floating-point embeddings [N, dimension] on a device; N may be 0.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function checkRows(
  rows: Tensor,
  dimension: number,
  device: Device | undefined,
  what: string,
  noun = 'keys',
): void {
  if (rows.ndim !== 2 || rows.sizeOf(1) !== dimension) {
    throw new InvalidArgumentError(`${what}: expected ${noun} of shape [N, ${dimension}], found ${shown(rows.shape)}`);
  }
  if (!rows.isFloatingPoint()) {
    throw new InvalidArgumentError(`${what}: ${noun} need a floating-point dtype, found ${rows.dtype}`);
  }
  if (device !== undefined) checkPlace(rows, device, what, noun);
}

/** @throws InvalidArgumentError naming `what` unless the tensor is on the device of the memory */
export function checkPlace(tensor: Tensor, device: Device, what: string, noun: string): void {
  if (tensor.device !== device) {
    throw new InvalidArgumentError(
      `${what}: the memory is on ${device}, the ${noun} are on ${tensor.device}; move one`,
    );
  }
}

/** @throws InvalidArgumentError naming `what` unless the tensor has this shape, dtype and device */
export function checkColumn(
  tensor: Tensor,
  shape: readonly number[],
  dtype: DType,
  device: Device,
  what: string,
  noun: string,
): void {
  if (tensor.dtype !== dtype)
    throw new InvalidArgumentError(`${what}: ${noun} must be ${dtype}, found ${tensor.dtype}`);
  if (tensor.shape.join() !== shape.join()) {
    throw new InvalidArgumentError(`${what}: expected ${noun} of shape ${shown(shape)}, found ${shown(tensor.shape)}`);
  }
  checkPlace(tensor, device, what, noun);
}

/**
 * Checks positions in a table: int64 [count] (any count by default) from 0 to size − 1, and with `distinct` no two alike. One read from the
 * device.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function checkPositions(
  positions: Tensor,
  size: number,
  device: Device,
  what: string,
  { count, distinct = false, noun = 'ids' }: { count?: number; distinct?: boolean; noun?: string } = {},
): void {
  checkColumn(positions, [count ?? positions.sizeOf(0)], 'int64', device, what, noun);
  if (positions.numel() === 0) return;
  const [low, high, twice] = noGrad(() =>
    scope(() => {
      const [sorted] = positions.sort();
      const equal = sorted.narrow(0, 1, sorted.numel() - 1).eq(sorted.narrow(0, 0, sorted.numel() - 1));
      const facts = [sorted.select(0, 0), sorted.select(0, -1), equal.any().to('int64')];
      return Array.from(torch.stack(facts).dataSync() as ArrayLike<bigint>, Number);
    }),
  ) as [number, number, number];
  if (low < 0 || high >= size) {
    throw new InvalidArgumentError(`${what}: ${noun} must be from 0 to ${size - 1}, found ${low < 0 ? low : high}`);
  }
  if (distinct && twice !== 0) throw new InvalidArgumentError(`${what}: ${noun} must be distinct, two are alike`);
}

/** The value itself, if it is finite and above 0. @throws InvalidArgumentError naming `what` */
export function positiveNumber(value: number, what: string): number {
  if (!(value > 0 && value < Infinity)) {
    throw new InvalidArgumentError(`${what} must be a number above 0, found ${String(value)}`);
  }
  return value;
}

/**
 * The tensor of a state by name, if it has the shape and dtype.
 *
 * @throws InvalidArgumentError naming `what` and the tensor
 */
export function stateTensor(
  state: StateDict,
  name: string,
  shape: readonly number[],
  dtype: DType,
  what: string,
): Tensor {
  const tensor = state.tensors.get(name);
  if (tensor?.shape.join() !== shape.join()) {
    throw new InvalidArgumentError(
      `${what} must hold '${name}' of shape ${shown(shape)}, found ${tensor === undefined ? 'none' : shown(tensor.shape)}`,
    );
  }
  if (tensor!.dtype !== dtype) {
    throw new InvalidArgumentError(`${what} must hold '${name}' of dtype ${dtype}, found ${tensor!.dtype}`);
  }
  return tensor!;
}

/** The values of a state. @throws InvalidArgumentError unless they are an object whose `same` members are equal to those given */
export function stateValues(state: StateDict, same: Record<string, JsonValue>, what: string): JsonObject {
  const values = jsonObject(state.values, what);
  for (const [name, value] of Object.entries(same)) {
    if (JSON.stringify(values[name]) !== JSON.stringify(value)) {
      throw new InvalidArgumentError(
        `${what}: '${name}' is ${JSON.stringify(values[name]) ?? 'not there'}, this one has ${JSON.stringify(value)}`,
      );
    }
  }
  return values;
}

/** A count among the values of a state. @throws InvalidArgumentError unless it is an integer of at least 0 */
export function stateCount(values: JsonObject, name: string, what: string): number {
  return integerFrom(0, jsonNumber(values, name, what), `${what}: ${name}`);
}
