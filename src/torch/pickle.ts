/**
 * A reader of Python's pickle format that makes plain data and runs nothing.
 *
 * A pickle is a program for a small stack machine, and two of its instructions name a Python function and call it: that is how
 * `pickle.load` on a stranger's file runs a stranger's code. This machine has no functions. Its host gives it a table of names with what
 * each stands for, and every other name is refused. What the instructions can allocate is bounded, and nothing recurses.
 *
 * Format: the comments of Python's Lib/pickletools.py. Protocols 2 to 5, without the text forms of protocol 0, which `torch.save` does not
 * write.
 */
import { readBytes, type ByteSource } from './byte-source';

/** What a pickle can hold here. Integers beyond 2 ** 53 are bigints; bytes and bytearrays are `Uint8Array`s. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleTuple
  | PickleDict
  | PickleSet
  | PickleObject;

/** A Python dict, in its order. */
export type PickleDict = Map<PickleValue, PickleValue>;

/** A Python set or frozenset. */
export type PickleSet = Set<PickleValue>;

/** A Python tuple. Apart from lists, because arguments and keys are tuples and can no longer change. */
export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** Anything that the host makes; the machine only hands it on. */
export abstract class PickleObject {
  /** Takes the state that Python's `__setstate__` would get. Objects without it refuse states. */
  setState?(state: PickleValue): void;
}

/** A name that a pickle may call. */
export class PickleFunction extends PickleObject {
  constructor(
    readonly name: string,
    /** Makes the result; throws {@link PickleDamage} for arguments that it does not take. */
    readonly call: (args: readonly PickleValue[]) => PickleValue,
  ) {
    super();
  }
}

/** What the machine asks of the format around the pickle. */
export interface PickleHost {
  /** What a Python name (`module.name`) stands for. */
  readonly globals: ReadonlyMap<string, PickleValue>;
  /** The object that is kept outside the pickle under this id. */
  persistent(id: PickleValue): PickleValue;
}

/** What is wrong with a pickle, without the file's name and the place. */
export class PickleDamage extends Error {}

/**
 * What a pickle's values may take in JavaScript's memory, about. A checkpoint's pickle holds names and shapes, and a large one takes a few MB.
 * Without the limit one byte of a file could stand for a hundred of memory.
 */
const MEMORY_LIMIT = 1 << 29;

/** About what V8 takes for one value of each kind, in bytes. */
const COST = { plain: 16, text: 32, list: 96, container: 256, key: 64, call: 256 } as const;

/** Python itself reads longer integers; no number of a checkpoint is. */
const LONGEST_INTEGER = 1024;

/** How many bytes of a file are read at a time. */
const WINDOW = 1 << 16;

/** A part of a file as a stream. */
export class PickleInput {
  /** The place of the next byte in the file. */
  position: number;
  private window: Buffer = Buffer.alloc(0);
  private windowStart: number;

  constructor(
    private readonly source: ByteSource,
    readonly start = 0,
    readonly end = source.size,
  ) {
    this.position = start;
    this.windowStart = start;
  }

  /** How many bytes are left. */
  get left(): number {
    return this.end - this.position;
  }

  byte(): number {
    const from = this.position - this.windowStart;
    // Most bytes are instructions, and a Buffer for each of them would cost most of the time.
    if (from >= this.window.byteLength) return this.take(1)[0]!;
    this.position++;
    return this.window[from]!;
  }

  /** The next bytes; they may share memory that later calls overwrite. */
  take(length: number): Buffer {
    this.expect(length);
    const from = this.position - this.windowStart;
    this.position += length;
    if (from + length <= this.window.byteLength) return this.window.subarray(from, from + length);
    this.windowStart = this.position - length;
    this.window = readBytes(
      this.source,
      this.windowStart,
      Math.min(Math.max(length, WINDOW), this.end - this.windowStart),
    );
    return this.window.subarray(0, length);
  }

  /** The text up to the next line end, without it. */
  line(): string {
    const bytes: number[] = [];
    for (let byte = this.byte(); byte !== 0x0a; byte = this.byte()) {
      if (bytes.push(byte) > 1000) throw new PickleDamage('a name has no end within 1000 bytes');
    }
    return decodeText(Uint8Array.from(bytes));
  }

  /** Passes over bytes without reading them. */
  skip(length: number): void {
    this.expect(length);
    this.position += length;
  }

  /** Checks that so many bytes are left. */
  expect(length: number | bigint): void {
    if (length > this.left) {
      throw new PickleDamage(`it ends where ${length} bytes should follow, and ${this.left} do (cut off?)`);
    }
  }

  /** A length of 8 bytes, checked against what is left. */
  longLength(): number {
    const length = this.take(8).readBigUInt64LE();
    this.expect(length);
    return Number(length);
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new PickleDamage('a string is not UTF-8');
  }
}

/** Python's integer of these bytes: little-endian, two's complement, any length. */
function decodeInteger(bytes: Uint8Array): number | bigint {
  if (bytes.byteLength === 0) return 0;
  const digits = Buffer.from(bytes).reverse().toString('hex');
  const integer = BigInt.asIntN(8 * bytes.byteLength, BigInt(`0x${digits}`));
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

/** The instructions, by their bytes. */
const enum Op {
  Mark = 0x28, // (
  Stop = 0x2e, // .
  Pop = 0x30, // 0
  PopMark = 0x31, // 1
  Dup = 0x32, // 2
  BinFloat = 0x47, // G
  BinInt = 0x4a, // J
  BinInt1 = 0x4b, // K
  BinInt2 = 0x4d, // M
  None = 0x4e, // N
  BinPersistentId = 0x51, // Q
  Reduce = 0x52, // R
  BinString = 0x54, // T
  ShortBinString = 0x55, // U
  BinUnicode = 0x58, // X
  EmptyList = 0x5d, // ]
  Append = 0x61, // a
  Build = 0x62, // b
  Global = 0x63, // c
  Appends = 0x65, // e
  BinGet = 0x68, // h
  LongBinGet = 0x6a, // j
  BinPut = 0x71, // q
  LongBinPut = 0x72, // r
  SetItem = 0x73, // s
  Tuple = 0x74, // t
  SetItems = 0x75, // u
  EmptyTuple = 0x29, // )
  EmptyDict = 0x7d, // }
  BinBytes = 0x42, // B
  ShortBinBytes = 0x43, // C
  Protocol = 0x80,
  Tuple1 = 0x85,
  Tuple2 = 0x86,
  Tuple3 = 0x87,
  NewTrue = 0x88,
  NewFalse = 0x89,
  Long1 = 0x8a,
  Long4 = 0x8b,
  ShortBinUnicode = 0x8c,
  BinUnicode8 = 0x8d,
  BinBytes8 = 0x8e,
  EmptySet = 0x8f,
  AddItems = 0x90,
  FrozenSet = 0x91,
  StackGlobal = 0x93,
  Memoize = 0x94,
  Frame = 0x95,
  ByteArray8 = 0x96,
}

/**
 * Reads one pickle and leaves `input` after it.
 *
 * @throws {PickleDamage} for anything that is damaged, not plain data, or too large. `input.position` is then within or after the
 *   instruction that failed.
 */
export function unpickle(input: PickleInput, host: PickleHost): PickleValue {
  const machine = new Machine(input, host);
  while (!machine.step());
  return machine.result();
}

class Machine {
  private readonly stack: PickleValue[] = [];
  /** Where in the stack each open list of items starts. */
  private readonly marks: number[] = [];
  /** Kept values that are numbered in turn, as Python's are, and others. */
  private readonly memo: PickleValue[] = [];
  private readonly memoElsewhere = new Map<number, PickleValue>();
  private spent = 0;

  constructor(
    private readonly input: PickleInput,
    private readonly host: PickleHost,
  ) {}

  /** What the pickle was made of: the one value that is left. */
  result(): PickleValue {
    if (this.marks.length > 0 || this.stack.length !== 1) {
      throw new PickleDamage(`${this.stack.length} values are left at its end instead of one`);
    }
    return this.stack[0]!;
  }

  /** Runs one instruction; true at the end. */
  step(): boolean {
    const { input, stack } = this;
    const op: Op = input.byte();
    switch (op) {
      case Op.Protocol: {
        const protocol = input.byte();
        if (protocol < 2 || protocol > 5) throw new PickleDamage(`it is of the unknown pickle protocol ${protocol}`);
        break;
      }
      case Op.Frame:
        input.longLength();
        break;
      case Op.Stop:
        return true;

      case Op.None:
        this.push(null, COST.plain);
        break;
      case Op.NewTrue:
        this.push(true, COST.plain);
        break;
      case Op.NewFalse:
        this.push(false, COST.plain);
        break;
      case Op.BinInt:
        this.push(input.take(4).readInt32LE(), COST.plain);
        break;
      case Op.BinInt1:
        this.push(input.byte(), COST.plain);
        break;
      case Op.BinInt2:
        this.push(input.take(2).readUInt16LE(), COST.plain);
        break;
      case Op.Long1:
        this.pushInteger(input.byte());
        break;
      case Op.Long4:
        this.pushInteger(input.take(4).readInt32LE());
        break;
      case Op.BinFloat:
        this.push(input.take(8).readDoubleBE(), COST.plain);
        break;

      case Op.ShortBinUnicode:
      case Op.ShortBinString:
        this.pushText(input.byte());
        break;
      case Op.BinUnicode:
      case Op.BinString:
        this.pushText(input.take(4).readUInt32LE());
        break;
      case Op.BinUnicode8:
        this.pushText(input.longLength());
        break;
      case Op.ShortBinBytes:
        this.pushBytes(input.byte());
        break;
      case Op.BinBytes:
        this.pushBytes(input.take(4).readUInt32LE());
        break;
      case Op.BinBytes8:
      case Op.ByteArray8:
        this.pushBytes(input.longLength());
        break;

      case Op.EmptyTuple:
        this.push(new PickleTuple([]), COST.list);
        break;
      case Op.Tuple1:
      case Op.Tuple2:
      case Op.Tuple3: {
        const items = this.popSome(op - Op.Tuple1 + 1);
        this.push(new PickleTuple(items), COST.list);
        break;
      }
      case Op.Tuple:
        this.push(new PickleTuple(this.popMarked()), COST.list);
        break;
      case Op.EmptyList:
        this.push([], COST.list);
        break;
      case Op.Append: {
        const [item] = this.popSome(1);
        this.topList().push(item!);
        break;
      }
      case Op.Appends: {
        const items = this.popMarked();
        const list = this.topList();
        for (const item of items) list.push(item);
        break;
      }
      case Op.EmptyDict:
        this.push(new Map(), COST.container);
        break;
      case Op.SetItem:
        this.setItems(this.popSome(2));
        break;
      case Op.SetItems:
        this.setItems(this.popMarked());
        break;
      case Op.EmptySet:
        this.push(new Set(), COST.container);
        break;
      case Op.AddItems: {
        const items = this.popMarked();
        const set = this.top();
        if (!(set instanceof Set)) throw new PickleDamage('it adds items to what is no set');
        for (const item of items) set.add(this.key(item));
        break;
      }
      case Op.FrozenSet:
        this.push(new Set(this.popMarked().map((item) => this.key(item))), COST.container);
        break;

      case Op.Mark:
        this.spend(COST.plain);
        this.marks.push(stack.length);
        break;
      case Op.Pop:
        // Python pops a mark when nothing is above it.
        if (this.marks.at(-1) === stack.length) this.marks.pop();
        else this.popSome(1);
        break;
      case Op.PopMark:
        this.popMarked();
        break;
      case Op.Dup:
        this.push(this.top(), COST.plain);
        break;

      case Op.BinPut:
        this.remember(input.byte());
        break;
      case Op.LongBinPut:
        this.remember(input.take(4).readUInt32LE());
        break;
      case Op.Memoize:
        this.remember(this.memo.length + this.memoElsewhere.size);
        break;
      case Op.BinGet:
        this.recall(input.byte());
        break;
      case Op.LongBinGet:
        this.recall(input.take(4).readUInt32LE());
        break;

      case Op.Global:
        this.pushGlobal(input.line(), input.line());
        break;
      case Op.StackGlobal: {
        const [module, name] = this.popSome(2);
        if (typeof module !== 'string' || typeof name !== 'string') throw new PickleDamage('a name is no string');
        this.pushGlobal(module, name);
        break;
      }
      case Op.BinPersistentId: {
        const [id] = this.popSome(1);
        this.push(this.host.persistent(id!), COST.list);
        break;
      }
      case Op.Reduce: {
        const [called, args] = this.popSome(2);
        if (!(called instanceof PickleFunction)) throw new PickleDamage('it calls what is no function');
        if (!(args instanceof PickleTuple)) throw new PickleDamage(`it calls ${called.name} without a tuple`);
        this.push(called.call(args.items), COST.call);
        break;
      }
      case Op.Build: {
        const [state] = this.popSome(1);
        const object = this.top();
        // An OrderedDict's own attributes, such as the versions in a module's state dict: not data.
        if (object instanceof Map) break;
        if (!(object instanceof PickleObject) || object.setState === undefined) {
          throw new PickleDamage('it sets the state of what has none');
        }
        object.setState(state!);
        break;
      }

      default:
        throw new PickleDamage(
          `it holds the instruction 0x${(op as number).toString(16).padStart(2, '0')}, which plain data does not need`,
        );
    }
    return false;
  }

  private spend(bytes: number): void {
    this.spent += bytes;
    if (this.spent > MEMORY_LIMIT) {
      throw new PickleDamage(`its values would take more than ${MEMORY_LIMIT >> 20} MiB of memory, besides tensors`);
    }
  }

  private push(value: PickleValue, cost: number): void {
    this.spend(cost);
    this.stack.push(value);
  }

  private pushText(length: number): void {
    this.input.expect(length);
    this.spend(2 * length);
    this.push(decodeText(this.input.take(length)), COST.text);
  }

  private pushBytes(length: number): void {
    this.input.expect(length);
    this.spend(length);
    this.push(Uint8Array.from(this.input.take(length)), COST.container);
  }

  private pushInteger(length: number): void {
    if (length < 0 || length > LONGEST_INTEGER) throw new PickleDamage(`it holds an integer of ${length} bytes`);
    this.push(decodeInteger(this.input.take(length)), COST.text + length);
  }

  private pushGlobal(module: string, name: string): void {
    const path = `${module}.${name}`;
    const value = this.host.globals.get(path);
    if (value === undefined) {
      throw new PickleDamage(
        `it holds the Python object '${path}', which cannot be made without running Python's code. Save plain data and ` +
          'tensors, such as model.state_dict(), with torch.save',
      );
    }
    this.push(value, COST.plain);
  }

  /** The value on top, above the last mark. */
  private top(): PickleValue {
    this.checkDepth(1);
    return this.stack.at(-1)!;
  }

  private topList(): PickleValue[] {
    const list = this.top();
    if (!Array.isArray(list)) throw new PickleDamage('it appends to what is no list');
    return list;
  }

  private checkDepth(count: number): void {
    if (this.stack.length - (this.marks.at(-1) ?? 0) < count)
      throw new PickleDamage('it takes values that are not there');
  }

  private popSome(count: number): PickleValue[] {
    this.checkDepth(count);
    return this.stack.splice(this.stack.length - count, count);
  }

  private popMarked(): PickleValue[] {
    const mark = this.marks.pop();
    if (mark === undefined) throw new PickleDamage('it ends a list of items that it did not start');
    return this.stack.splice(mark);
  }

  private setItems(items: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof Map)) throw new PickleDamage('it sets items of what is no dict');
    if (items.length % 2 !== 0) throw new PickleDamage('a dict has a key without a value');
    for (let i = 0; i < items.length; i += 2) dict.set(this.key(items[i]!), items[i + 1]!);
  }

  /** A key of a dict or an item of a set; Python takes only what cannot change. Each costs as much as a place in a map does. */
  private key(value: PickleValue): PickleValue {
    this.spend(COST.key);
    if (Array.isArray(value) || value instanceof Map) throw new PickleDamage('a list or a dict is used as a key');
    return value;
  }

  private remember(place: number): void {
    const value = this.top();
    if (place <= this.memo.length) {
      this.spend(COST.plain);
      this.memo[place] = value;
    } else {
      this.spend(COST.key);
      this.memoElsewhere.set(place, value);
    }
  }

  private recall(place: number): void {
    const value = place < this.memo.length ? this.memo[place] : this.memoElsewhere.get(place);
    if (value === undefined) throw new PickleDamage(`it recalls value ${place}, which it never kept`);
    this.push(value, COST.plain);
  }
}
