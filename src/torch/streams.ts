/** Streams and events: the order of a device's work, and waiting for it. */
import { inspect } from 'node:util';
import { synchronous } from './autograd';
import { checkDeviceName } from './devices';
import { InvalidArgumentError } from './errors';
import { native, type NativeEvent } from './native';
import { ObjectSource, TorchObject } from './object-handle';
import type { Device } from './types';

/** Options of {@link Stream}. */
export interface StreamOptions {
  /** Lower numbers go first when the device has to choose: 0, or -1 for work in a hurry. Default: 0. */
  priority?: number;
}

function resolve(device: Device): Device {
  return native.resolveDevice(checkDeviceName(device)) as Device;
}

/**
 * A queue of a device's work. Work in one stream runs in the order it was given; streams run beside each other. LibTorch has 32 a
 * device and priority and gives them out in turn.
 *
 * The CPU has one stream, whose work is done when an operator returns, so that the same code runs there.
 */
export class Stream extends ObjectSource {
  /** The device, with its index. */
  readonly device: Device;
  /** LibTorch's number of the stream on its device; 0 is the default stream. */
  readonly id: number;

  /**
   * @param device - default: the current CUDA device
   * @throws InvalidArgumentError if there is no such device
   */
  constructor(device: Device = 'cuda', options: StreamOptions = {}) {
    super();
    const { priority = 0 } = options;
    if (!Number.isInteger(priority) || priority > 0 || priority < -128) {
      throw new InvalidArgumentError(`a stream's priority is 0 or a negative whole number, not ${inspect(priority)}`);
    }
    this.device = resolve(device);
    this.id = native.newStream(this.device, priority);
  }

  /** @internal For operators that take a stream, `ops.aten.record_stream` above all. */
  toObject(): TorchObject {
    return new TorchObject(native.streamObject(this.device, this.id));
  }

  private static from(device: Device, id: number): Stream {
    return Object.assign(Object.create(Stream.prototype) as Stream, { device, id });
  }

  /** The stream that a device's work goes to now, in this thread. */
  static current(device: Device = 'cuda'): Stream {
    const resolved = resolve(device);
    return Stream.from(resolved, native.currentStream(resolved));
  }

  /** The stream that a device's work goes to outside any {@link withStream}. */
  static default(device: Device = 'cuda'): Stream {
    return Stream.from(resolve(device), 0);
  }

  /** Whether both stand for one queue. */
  equals(other: Stream): boolean {
    return this.device === other.device && this.id === other.id;
  }

  /** Whether all work given so far is done. */
  query(): boolean {
    return native.queryStream(this.device, this.id);
  }

  /** Waits until all work given so far is done. `await stream.record().wait()` does so without holding up the event loop. */
  synchronize(): void {
    native.synchronizeStream(this.device, this.id);
  }

  /** Lets what this stream is given from now on wait for an event, or for the work that another stream was given so far. */
  wait(other: Event | Stream): void {
    const event = other instanceof Stream ? other.record() : other;
    native.waitForEvent(this.device, this.id, event.native);
  }

  /** A new event at the end of the work given so far. */
  record(): Event {
    return new Event({ device: this.device }).record(this);
  }
}

/**
 * Runs synchronous code whose work goes to a stream, on the stream's device. Results may be used in other streams once those
 * {@link Stream.wait} for this one.
 *
 * A tensor's memory is used again as soon as it is freed, by the stream it was made in: before freeing one that another stream reads, let
 * its own stream wait for the other.
 *
 * @throws InvalidArgumentError if the callback is async
 */
export function withStream<T>(stream: Stream, body: () => T): T {
  const before = native.enterStream(stream.device, stream.id);
  try {
    return synchronous('withStream', body());
  } finally {
    native.leaveStream(stream.device, ...before);
  }
}

/** Options of {@link Event}. */
export interface EventOptions {
  /** Default: the current CUDA device. */
  device?: Device;
  /** Whether times can be taken between this event and others; makes it slower. Default: false. */
  timing?: boolean;
}

/** A point in a stream's work: whether it is reached, waiting for it, and the time between two of them. */
export class Event {
  /** The device, with its index. */
  readonly device: Device;
  /** @internal */
  readonly native: NativeEvent;

  /** @throws InvalidArgumentError if there is no such device */
  constructor(options: EventOptions = {}) {
    const { device = 'cuda', timing = false } = options;
    this.device = resolve(device);
    this.native = native.newEvent(this.device, timing);
  }

  /**
   * Sets the event to the end of the work that a stream was given so far. Recording again moves it; who already waits goes on waiting
   * for the former point.
   *
   * @param stream - default: the device's current stream
   * @throws InvalidArgumentError if the stream belongs to another device
   */
  record(stream: Stream = Stream.current(this.device)): this {
    native.recordEvent(this.native, stream.device, stream.id);
    return this;
  }

  /** Whether the point is reached; true if the event was never recorded. */
  query(): boolean {
    return native.queryEvent(this.native);
  }

  /** Waits until the point is reached. See {@link Event.wait}. */
  synchronize(): void {
    native.synchronizeEvent(this.native);
  }

  /** As {@link Event.synchronize}, with the event loop free meanwhile. It waits on one of libuv's threads. */
  async wait(): Promise<void> {
    await native.awaitEvent(this.native);
  }

  /**
   * The time from this event to a later one, in milliseconds.
   *
   * @throws InvalidArgumentError if one of them was made without `timing`, was not recorded, or is not reached yet
   */
  elapsedTime(end: Event): number {
    return native.elapsedTime(this.native, end.native);
  }
}

/** As {@link synchronize}, with the event loop free meanwhile. It waits on one of libuv's threads. */
export async function synchronizeAsync(device: Device = 'cuda'): Promise<void> {
  await native.awaitDevice(resolve(device));
}
