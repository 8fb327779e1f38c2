/** What a {@link KontrastError} may carry besides its message. */
export interface KontrastErrorOptions {
  /** A stable, upper-case identifier to branch on. */
  code?: string;
  /** The operator that failed, for example `aten::matmul`. */
  operator?: string;
  /** The schema that was called; all of the operator's when none fits the arguments. */
  schemas?: readonly string[];
  /** The error that led to this one. */
  cause?: unknown;
}

/** The base of every error that kontrast raises on purpose. */
export class KontrastError extends Error {
  /** A stable, upper-case identifier to branch on. */
  readonly code: string;
  /** The operator that failed, when an operator failed. */
  declare readonly operator?: string;
  /** The schema that was called; all of the operator's when none fits the arguments. */
  declare readonly schemas?: readonly string[];

  constructor(message: string, options: KontrastErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code ?? 'KONTRAST';
    if (options.operator !== undefined) this.operator = options.operator;
    if (options.schemas !== undefined) this.schemas = options.schemas;
  }
}

/** Bad input, found by our own checks before anything changed. */
export class InvalidArgumentError extends KontrastError {
  constructor(message: string, options: KontrastErrorOptions = {}) {
    super(message, { code: 'INVALID_ARGUMENT', ...options });
  }
}

/** A tensor was used after `dispose()`, after its scope ended, or on a thread that does not own it. */
export class DisposedError extends KontrastError {
  constructor(message: string, options: KontrastErrorOptions = {}) {
    super(message, { code: 'DISPOSED', ...options });
  }
}

/** An error of LibTorch itself; the subclasses mirror LibTorch's own classes. */
export class TorchError extends KontrastError {
  constructor(message: string, options: KontrastErrorOptions = {}) {
    super(message, { code: 'TORCH', ...options });
  }
}

/** LibTorch's `IndexError`: an index or dimension out of range. */
export class TorchIndexError extends TorchError {}

/** LibTorch's `ValueError`: an argument of the right type with a value that makes no sense. */
export class TorchValueError extends TorchError {}

/** LibTorch's `TypeError`: arguments of types that the operator does not take. */
export class TorchTypeError extends TorchError {}

/** LibTorch's `NotImplementedError`: no kernel for this device or dtype. */
export class TorchNotImplementedError extends TorchError {}

/**
 * LibTorch's `OutOfMemoryError`: a device, or the CPU, has no room for an allocation. No tensor was freed. The numbers are those
 * of LibTorch's message, which rounds those of CUDA to hundredths of their unit; what it does not tell is left out.
 */
export class OutOfMemoryError extends TorchError {
  /** Bytes that were asked for. */
  declare readonly requestedBytes?: number;
  /** Bytes that were free on the CUDA device. */
  declare readonly freeBytes?: number;
  /** Bytes that the CUDA device has. */
  declare readonly totalBytes?: number;
  /** Bytes that LibTorch's tensors held on the CUDA device. */
  declare readonly allocatedBytes?: number;

  constructor(message: string, options: KontrastErrorOptions = {}) {
    super(message, { code: 'OUT_OF_MEMORY', ...options });
    for (const [name, pattern] of Object.entries(memoryPatterns)) {
      const [, size, unit] = pattern.exec(message) ?? [];
      if (unit !== undefined) Object.assign(this, { [name]: Math.round(Number(size) * byteUnits[unit]!) });
    }
  }
}

const byteUnits: Record<string, number> = { bytes: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Where LibTorch's messages tell sizes. */
const memoryPatterns = {
  requestedBytes: /(?:tried to allocate|Requested size:) ([\d.]+) (bytes|[KMG]iB)/i,
  freeBytes: /of which ([\d.]+) (bytes|[KMG]iB) is free/,
  totalBytes: /total capacity of ([\d.]+) (bytes|[KMG]iB)/,
  allocatedBytes: /Of the allocated memory ([\d.]+) (bytes|[KMG]iB) is allocated/,
};

/** LibTorch's `LinAlgError`: a matrix that cannot be factorised, inverted, ... */
export class LinAlgError extends TorchError {}

/** LibTorch's distributed errors. */
export class DistributedError extends TorchError {}

/** What the addon says of a failure: the class it belongs to, the message, the operator and its schemas. */
export interface NativeFailure {
  code: string;
  message: string;
  operator?: string;
  schemas?: readonly string[];
}

const classes: Record<string, new (message: string, options?: KontrastErrorOptions) => KontrastError> = {
  INDEX: TorchIndexError,
  VALUE: TorchValueError,
  TYPE: TorchTypeError,
  NO_OVERLOAD: TorchTypeError,
  NOT_IMPLEMENTED: TorchNotImplementedError,
  OUT_OF_MEMORY: OutOfMemoryError,
  LINALG: LinAlgError,
  DISTRIBUTED: DistributedError,
  TORCH: TorchError,
  DISPOSED: DisposedError,
  INVALID_ARGUMENT: InvalidArgumentError,
};

/** Messages of LibTorch's plain errors that mean there is no memory: of the CPU, and of memory shared with CUDA. */
const outOfMemory = /DefaultCPUAllocator: (?:can't allocate|not enough) memory|CUDA error: out of memory/;

/** Makes the JavaScript error that belongs to a failure inside the addon. */
export function errorFromNative(failure: NativeFailure): KontrastError {
  const { message, operator, schemas } = failure;
  if (failure.code === 'TORCH' && outOfMemory.test(message)) {
    return new OutOfMemoryError(`${message}. Use smaller batches, or free tensors earlier: scope(() => ...)`, {
      operator,
      schemas,
    });
  }
  const constructor = classes[failure.code] ?? TorchError;
  return new constructor(message, { code: failure.code, operator, schemas });
}
