/**
 * Small files that a reader must survive: sound ones, from which the test makes damaged ones by the thousand, and hostile ones, each
 * with what it must be refused for. Run to write them: `npx ts-node --transpile-only test/torch/corpus/make.ts`.
 */
import { rmSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { bytes, little } from '../../support/bytes';
import { storedZip, type StoredEntry, type ZipEnd } from '../../support/stored-zip';

/** Where the files are. */
export const corpusFolder = join(__dirname, 'files');

/** One file: its bytes, and what a reader must say of it; null for a sound one. */
export interface CorpusFile {
  content: Buffer;
  reason: string | null;
}

// --- Pickles, put together from their instructions

const none = bytes('N');
const truth = bytes(0x88);
const untruth = bytes(0x89);
const text = (value: string): Buffer => bytes('X', little(Buffer.byteLength(value), 4), value);
const integer = (value: number | bigint): Buffer => bytes(0x8a, 8, little(value, 8));
const tuple = (...items: Buffer[]): Buffer => bytes('(', ...items, 't');
const list = (...items: Buffer[]): Buffer => bytes(']', '(', ...items, 'e');
const dict = (...items: [Buffer, Buffer][]): Buffer => bytes('}', '(', ...items.flat(), 'u');
const named = (module: string, name: string): Buffer => bytes('c', module, '\n', name, '\n');
const call = (called: Buffer, ...args: Buffer[]): Buffer => bytes(called, tuple(...args), 'R');
const pickle = (...parts: Buffer[]): Buffer => bytes(0x80, 2, ...parts, '.');
const ordered = call(named('collections', 'OrderedDict'));

interface Storage {
  kind?: string;
  type?: Buffer;
  key?: Buffer;
  count?: number | bigint;
  /** In the older format a storage has one thing more. */
  view?: Buffer;
}

const storage = ({
  kind = 'storage',
  type = named('torch', 'FloatStorage'),
  key = text('0'),
  count = 4,
  view,
}: Storage = {}): Buffer =>
  bytes(tuple(text(kind), type, key, text('cpu'), integer(count), ...(view === undefined ? [] : [view])), 'Q');

interface Described {
  storage?: Buffer;
  offset?: Buffer;
  size?: Buffer;
  stride?: Buffer;
  grad?: Buffer;
  more?: Buffer[];
  rebuild?: string;
}

const sizes = (...values: (number | bigint)[]): Buffer => tuple(...values.map(integer));

const tensor = ({
  storage: stored = storage(),
  offset = integer(0),
  size = sizes(2, 2),
  stride = sizes(2, 1),
  grad = untruth,
  more = [],
  rebuild = '_rebuild_tensor_v2',
}: Described = {}): Buffer =>
  call(named('torch._utils', rebuild), stored, offset, size, stride, grad, ordered, ...more);

const floats = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);

// --- Whole files

const entry = (name: string, content: Uint8Array | string, more: Partial<StoredEntry> = {}): StoredEntry => ({
  name: `m/${name}`,
  content: Buffer.from(content),
  ...more,
});

/** A file as torch.save writes it now. */
const saved = (content: Buffer, entries: StoredEntry[] = [entry('data/0', floats)], end?: ZipEnd): Buffer =>
  storedZip([entry('data.pkl', content), entry('byteorder', 'little'), ...entries, entry('version', '3\n')], end);

const magic = pickle(bytes(0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19));
const system = (order: Buffer): Buffer => pickle(dict([text('little_endian'), order]));
const old = storage({ view: none });

interface Legacy {
  head?: Buffer[];
  content?: Buffer;
  keys?: Buffer;
  count?: Buffer;
  data?: Uint8Array;
}

/** A file as torch.save wrote it before PyTorch 1.6. */
const legacy = ({
  head = [magic, pickle(integer(1001)), system(truth)],
  content = pickle(tensor({ storage: old })),
  keys = list(text('0')),
  count = little(4, 8),
  data = floats,
}: Legacy = {}): Buffer => bytes(...head, content, pickle(keys), count, data);

const safetensors = (header: string, data = 0, length = Buffer.byteLength(header)): Buffer =>
  bytes(little(length, 8), header, new Uint8Array(data));

const float2 = (begin: number, end: number): string => `{"dtype":"F32","shape":[2],"data_offsets":[${begin},${end}]}`;

const shared: StoredEntry = entry('data/1', floats, { directory: { header: 0 } });
const packed = deflateRawSync(Buffer.alloc(1 << 20));
/** A list that holds the one before it twice, sixty times over: 2 ** 60 values in a few hundred bytes. */
function multiply(): Buffer {
  const levels: Buffer[] = [];
  for (let level = 0; level < 60; level++)
    levels.push(bytes(']', '(', 'h', level, 'h', level, 'e', 'q', level + 1, '0'));
  return bytes(']', 'q', 0, '0', ...levels, 'h', 60);
}

const sound: Record<string, Buffer> = {
  'sound.pt': saved(
    pickle(
      dict(
        [text('weight'), tensor()],
        [
          text('bias'),
          call(
            named('torch._utils', '_rebuild_parameter'),
            tensor({ size: sizes(3), stride: sizes(1), offset: integer(1) }),
            truth,
            ordered,
          ),
        ],
        [
          text('wide'),
          tensor({
            storage: storage({ key: text('1'), type: named('torch.storage', 'UntypedStorage'), count: 16 }),
            rebuild: '_rebuild_tensor_v3',
            size: sizes(8),
            stride: sizes(1),
            more: [named('torch', 'uint16')],
          }),
        ],
        [
          text('plain'),
          list(integer(-5), bytes('G', 0x40, 4, 0, 0, 0, 0, 0, 0), none, truth, tuple(integer(1), text('ü'))),
        ],
        [integer(3), call(named('_codecs', 'encode'), text('é'), text('latin1'))],
        [text('size'), call(named('torch', 'Size'), sizes(2, 3))],
        [
          text('scalar'),
          call(
            named('numpy._core.multiarray', 'scalar'),
            bytes(call(named('numpy', 'dtype'), text('i8'), untruth, truth), tuple(integer(3), text('<'), none), 'b'),
            bytes('C', 8, little(7, 8)),
          ),
        ],
      ),
    ),
    [entry('data/0', floats), entry('data/1', floats)],
    { large: true },
  ),
  'sound-legacy.pt': legacy({
    content: pickle(
      dict(
        [text('a'), tensor({ storage: old })],
        [text('b'), tensor({ storage: old, size: sizes(2), stride: sizes(0) })],
      ),
    ),
  }),
  'sound.safetensors': safetensors(
    `{"__metadata__":{"k":"v"},"a":${float2(0, 8)},"b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}`,
    16,
  ),
};

/** By name: the bytes, and what they must be refused for. */
const hostile: Record<string, [content: Buffer, reason: string]> = {
  // Python that would run
  'call-system.pt': [saved(pickle(call(named('os', 'system'), text('exit')))), "'os\\.system'"],
  'call-eval.pt': [saved(pickle(call(named('builtins', 'eval'), text('1')))), "'builtins\\.eval'"],
  'call-getattr.pt': [
    saved(pickle(call(named('__builtin__', 'getattr'), text('a'), text('b')))),
    "'__builtin__\\.getattr'",
  ],
  'call-load.pt': [saved(pickle(call(named('torch.storage', '_load_from_bytes'), text('a')))), '_load_from_bytes'],
  'call-dotted.pt': [saved(pickle(named('torch', 'serialization.os.system'))), "'torch\\.serialization\\.os\\.system'"],
  'call-inherited.pt': [saved(pickle(named('toString', 'constructor'))), "'toString\\.constructor'"],
  'function-as-value.pt': [saved(pickle(named('torch._utils', '_rebuild_tensor_v2'))), 'Python function'],
  'class-as-value.pt': [saved(pickle(list(named('torch.nn.parameter', 'Parameter')))), 'Python class'],
  'storage-type-as-value.pt': [saved(pickle(named('torch', 'FloatStorage'))), 'Python class'],
  'object-made.pt': [saved(pickle(named('torch', 'Tensor'), bytes(')', 0x81))), 'instruction 0x81'],
  'state-set.pt': [saved(pickle(tensor(), none, bytes('b'))), 'state of what has none'],

  // Structures that would not end
  'circle.pt': [saved(pickle(bytes(']', 'q', 0, 'h', 0, 'a'))), 'holds itself'],
  'circle-dict.pt': [saved(pickle(bytes('}', 'q', 0), text('a'), bytes('h', 0, 's'))), 'holds itself'],
  'multiplied.pt': [saved(pickle(multiply())), 'values multiply'],
  'deep.pt': [saved(pickle(bytes(']'.repeat(2000), 'a'.repeat(1999)))), 'nested more than 500 deep'],
  'deep-tuples.pt': [saved(pickle(bytes('N', Buffer.alloc(2000, 0x85)))), 'nested more than 500 deep'],
  'deep-dicts.pt': [saved(pickle(bytes('}N'.repeat(1000), '}', 's'.repeat(1000)))), 'nested more than 500 deep'],
  'deep-calls.pt': [
    saved(
      pickle(
        call(
          named('torch._tensor', '_rebuild_from_type_v2'),
          named('torch._tensor', '_rebuild_from_type_v2'),
          named('torch', 'Tensor'),
          tuple(),
          none,
        ),
      ),
    ),
    "_rebuild_from_type_v2' with arguments",
  ],

  // Pickles that are cut or swollen
  'empty-pickle.pt': [
    saved(Buffer.alloc(0)),
    'should follow, and 0 do \\(cut off\\?\\) \\(near byte 0 of m/data.pkl\\)',
  ],
  'long-integer.pt': [saved(pickle(bytes(0x8b, little(2 ** 31 - 1, 4), 1))), 'an integer of 2147483647 bytes'],
  'long-text.pt': [saved(pickle(bytes('X', little(2 ** 32 - 1, 4), 'a'))), 'ends where 4294967295 bytes'],
  'longer-text.pt': [saved(pickle(bytes(0x8d, little(-1, 8), 'a'))), 'ends where 18446744073709551615'],
  'cut-text.pt': [saved(pickle(bytes('X', little(1000, 4), 'a'))), 'ends where 1000 bytes'],
  'name-without-end.pt': [saved(pickle(bytes('c', 'x'.repeat(1500)))), 'a name has no end'],
  'underflow.pt': [saved(pickle(bytes('R'))), 'values that are not there'],

  // Tensors that would reach beyond their memory
  'beyond.pt': [saved(pickle(tensor({ size: sizes(5), stride: sizes(1) }))), 'reaches beyond the 16 bytes'],
  'beyond-by-offset.pt': [saved(pickle(tensor({ offset: integer(1) }))), 'reaches beyond the 16 bytes'],
  'beyond-by-stride.pt': [saved(pickle(tensor({ stride: sizes(3, 1) }))), 'reaches beyond the 16 bytes'],
  'beyond-by-dtype.pt': [
    saved(pickle(tensor({ rebuild: '_rebuild_tensor_v3', more: [named('torch', 'float64')] }))),
    'reaches beyond the 16 bytes',
  ],
  'beyond-far.pt': [saved(pickle(tensor({ offset: integer(2n ** 53n - 1n) }))), 'reaches beyond the 16 bytes'],
  'negative-offset.pt': [saved(pickle(tensor({ offset: integer(-1) }))), 'arguments that PyTorch would not give'],
  'negative-stride.pt': [saved(pickle(tensor({ stride: sizes(-2, -1) }))), 'arguments that PyTorch would not give'],
  'negative-size.pt': [saved(pickle(tensor({ size: sizes(-2, -2) }))), 'arguments that PyTorch would not give'],
  'huge-size.pt': [saved(pickle(tensor({ size: sizes(2n ** 40n, 2n ** 40n), stride: sizes(0, 0) }))), 'can be counted'],
  'huge-empty-size.pt': [
    saved(pickle(tensor({ size: sizes(2n ** 40n, 2n ** 40n, 0), stride: sizes(0, 0, 0) }))),
    'can be counted',
  ],
  'huge-stride.pt': [saved(pickle(tensor({ stride: sizes(2n ** 52n, 2n ** 52n) }))), 'reaches beyond'],
  'large-offset.pt': [saved(pickle(tensor({ offset: integer(2n ** 62n) }))), 'arguments that PyTorch would not give'],
  'ranks-differ.pt': [saved(pickle(tensor({ stride: sizes(1) }))), 'arguments that PyTorch would not give'],
  'many-dimensions.pt': [
    saved(pickle(tensor({ size: sizes(...Array<number>(65).fill(1)), stride: sizes(...Array<number>(65).fill(1)) }))),
    'arguments that PyTorch would not give',
  ],
  'size-list.pt': [
    saved(pickle(tensor({ size: list(integer(2)), stride: list(integer(1)) }))),
    'arguments that PyTorch',
  ],
  'no-storage.pt': [saved(pickle(tensor({ storage: none }))), 'arguments that PyTorch would not give'],
  'no-arguments.pt': [saved(pickle(call(named('torch._utils', '_rebuild_tensor_v2')))), 'arguments that PyTorch'],
  'gradient-of-integers.pt': [
    saved(pickle(tensor({ storage: storage({ type: named('torch', 'IntStorage') }), grad: truth }))),
    'tensor of int32 whose requires_grad is true',
  ],
  'parameter-of-text.pt': [
    saved(pickle(call(named('torch._utils', '_rebuild_parameter'), text('a'), truth, ordered))),
    'arguments',
  ],
  'conjugate-of-floats.pt': [
    saved(pickle(tensor({ more: [dict([text('conj'), truth])] }))),
    'arguments that PyTorch would not give',
  ],
  'no-dtype.pt': [
    saved(pickle(tensor({ rebuild: '_rebuild_tensor_v3', more: [text('float32')] }))),
    'arguments that PyTorch',
  ],
  'quantised.pt': [
    saved(pickle(tensor({ rebuild: '_rebuild_tensor_v3', more: [named('torch', 'qint8')] }))),
    'of the dtype qint8, which cannot be read',
  ],
  'device-as-dtype.pt': [
    saved(pickle(tensor({ rebuild: '_rebuild_tensor_v3', more: [call(named('torch', 'device'), text('cpu'))] }))),
    'of the dtype cpu, which cannot be read',
  ],

  // Storages that are not what the pickle says
  'storage-missing.pt': [saved(pickle(tensor({ storage: storage({ key: text('7') }) }))), "'m/data/7' is missing"],
  'storage-elsewhere.pt': [saved(pickle(tensor({ storage: storage({ key: text('../data.pkl') }) }))), 'is missing'],
  'storage-short.pt': [saved(pickle(tensor({ storage: storage({ count: 5 }) }))), 'has 16 bytes and should have 20'],
  'storage-huge.pt': [saved(pickle(tensor({ storage: storage({ count: 2n ** 52n }) }))), 'bad length|should have'],
  'storage-negative.pt': [saved(pickle(tensor({ storage: storage({ count: -4 }) }))), 'has a bad length'],
  'storage-beyond.pt': [saved(pickle(tensor({ storage: storage({ count: 2n ** 62n }) }))), 'has a bad length'],
  'storage-two-lengths.pt': [
    saved(pickle(list(tensor(), tensor({ storage: storage({ type: named('torch', 'DoubleStorage') }) })))),
    'used with 16 and with 32 bytes',
  ],
  'storage-no-type.pt': [saved(pickle(storage({ type: none }))), 'a storage has no type'],
  'storage-other-kind.pt': [saved(pickle(storage({ kind: 'module' }))), 'something outside that is no storage'],
  'storage-number.pt': [saved(pickle(storage({ key: integer(0) }))), 'something outside that is no storage'],
  'outside-by-number.pt': [saved(pickle(integer(0), bytes('Q'))), 'something outside that is no storage'],

  // Other arguments
  'bytes-not-latin.pt': [
    saved(pickle(call(named('_codecs', 'encode'), text('€'), text('latin1')))),
    "'_codecs.encode'",
  ],
  'bytes-of-code.pt': [saved(pickle(call(named('_codecs', 'encode'), text('a'), text('zip')))), "'_codecs.encode'"],
  'bytes-by-count.pt': [saved(pickle(call(named('builtins', 'bytes'), integer(2n ** 40n)))), "'builtins.bytes'"],
  'bytearray-by-count.pt': [
    saved(pickle(call(named('builtins', 'bytearray'), integer(2n ** 40n)))),
    "'builtins.bytearray'",
  ],
  'size-of-text.pt': [saved(pickle(call(named('torch', 'Size'), text('a')))), "'torch.Size'"],
  'device-of-nothing.pt': [saved(pickle(call(named('torch', 'device')))), "'torch.device'"],
  'ordered-of-numbers.pt': [saved(pickle(call(named('collections', 'OrderedDict'), list(integer(1))))), 'OrderedDict'],
  'counter-of-a-list.pt': [saved(pickle(call(named('collections', 'Counter'), list()))), 'Counter'],
  'set-of-lists.pt': [saved(pickle(call(named('builtins', 'set'), list(list())))), "'builtins.set'"],
  'complex-of-text.pt': [saved(pickle(call(named('builtins', 'complex'), text('1'), text('2')))), "'builtins.complex'"],
  'numpy-object.pt': [saved(pickle(call(named('numpy', 'dtype'), text('O8')))), 'NumPy value of the type "O8"'],
  'numpy-short.pt': [
    saved(
      pickle(
        call(named('numpy.core.multiarray', 'scalar'), call(named('numpy', 'dtype'), text('i8')), bytes('C', 1, 0)),
      ),
    ),
    'multiarray.scalar',
  ],

  // Archives that lie
  'bomb.pt': [
    saved(pickle(tensor({ storage: storage({ count: 1 << 18 }) })), [
      entry('data/0', packed, { directory: { method: 8, size: 1 << 20, stored: packed.byteLength } }),
    ]),
    'is compressed',
  ],
  'bomb-stored.pt': [
    saved(pickle(tensor({ storage: storage({ count: 1 << 28 }) })), [
      entry('data/0', floats, { directory: { size: 1 << 30 } }),
    ]),
    'is compressed',
  ],
  'bomb-pickle.pt': [
    storedZip([entry('data.pkl', packed, { directory: { method: 8, size: 1 << 20 } })]),
    'is compressed',
  ],
  'overlap.pt': [saved(pickle(tensor()), [entry('data/0', floats), shared]), 'reaches beyond'],
  'twice.pt': [
    saved(pickle(tensor()), [entry('data/0', floats), entry('data/0', floats)]),
    "two of its entries are named 'm/data/0'",
  ],
  'path.pt': [saved(pickle(none), [entry('../../etc/passwd', floats)]), 'is not safe'],
  'path-absolute.pt': [storedZip([{ name: '/data.pkl', content: pickle(none) }]), 'is not safe'],
  'checksum.pt': [saved(pickle(tensor()), [entry('data/0', floats, { directory: { crc32: 1 } })]), 'CRC-32'],
  'checksum-pickle.pt': [storedZip([entry('data.pkl', pickle(none), { directory: { crc32: 1 } })]), 'CRC-32'],
  'big-endian.pt': [storedZip([entry('data.pkl', pickle(none)), entry('byteorder', 'big')]), "in the order 'big'"],
  'long-order.pt': [
    storedZip([entry('data.pkl', pickle(none)), entry('byteorder', 'x'.repeat(101))]),
    '101 bytes instead of a word',
  ],
  'no-pickle.pt': [storedZip([entry('version', '3')]), "without 'm/data.pkl'"],
  'empty.pt': [storedZip([entry('a', '')]).subarray(0, 4), 'does not end as a zip archive'],
  'script.pt': [storedZip([entry('constants.pkl', pickle(none)), entry('data.pkl', pickle(none))]), 'TorchScript'],
  'cut-directory.pt': [saved(pickle(none)).subarray(0, -30), 'does not end as a zip archive'],
  'far-directory.pt': [saved(pickle(none), [], { large: { start: 2n ** 63n } }), 'directory should end'],
  'large-directory.pt': [saved(pickle(none), [], { large: { count: 2n ** 40n } }), 'claims 1099511627776 entries'],

  // The older format
  'legacy-nothing.pt': [Buffer.alloc(0), 'neither a zip archive nor'],
  'legacy-text.pt': [Buffer.from('<!DOCTYPE html><title>404</title>'), 'neither a zip archive nor'],
  'legacy-other-pickle.pt': [pickle(dict([text('a'), integer(1)])), 'neither a zip archive nor'],
  'legacy-cut.pt': [magic, 'ends where 1 bytes should follow'],
  'legacy-version.pt': [legacy({ head: [magic, pickle(integer(1002)), system(truth)] }), 'unknown version 1002'],
  'legacy-big-endian.pt': [legacy({ head: [magic, pickle(integer(1001)), system(untruth)] }), 'not little-endian'],
  'legacy-system.pt': [legacy({ head: [magic, pickle(integer(1001)), pickle(none)] }), 'not little-endian'],
  'legacy-call.pt': [legacy({ content: pickle(call(named('os', 'system'), text('exit'))) }), "'os\\.system'"],
  'legacy-call-in-keys.pt': [legacy({ keys: call(named('os', 'system'), text('exit')) }), "'os\\.system'"],
  'legacy-tensor-in-keys.pt': [legacy({ keys: bytes(text('0'), 'Q') }), 'a tensor is where none can be'],
  'legacy-no-keys.pt': [legacy({ keys: none }), 'the list of its storages is missing'],
  'legacy-few-keys.pt': [legacy({ keys: list() }), 'lacks some of its storages'],
  'legacy-other-keys.pt': [legacy({ keys: list(text('1')) }), 'not that of its tensors'],
  'legacy-keys-twice.pt': [legacy({ keys: list(text('0'), text('0')) }), 'not that of its tensors'],
  'legacy-length.pt': [legacy({ count: little(5, 8) }), 'has 5 elements of 4 bytes, and should have 16 bytes'],
  'legacy-negative-length.pt': [legacy({ count: little(-4, 8) }), 'has -4 elements'],
  'legacy-huge.pt': [
    legacy({
      content: pickle(tensor({ storage: storage({ view: none, count: 2 ** 40 }) })),
      count: little(2 ** 40, 8),
    }),
    'more than the file',
  ],
  'legacy-cut-storage.pt': [legacy({ data: floats.subarray(0, 15) }), 'ends where 16 bytes should follow, and 15 do'],
  'legacy-view.pt': [
    legacy({ content: pickle(tensor({ storage: storage({ view: tuple(text('1'), integer(0), integer(4)) }) })) }),
    'a view of a storage',
  ],
  'legacy-two-lengths.pt': [
    legacy({
      content: pickle(
        list(
          tensor({ storage: old }),
          tensor({ storage: storage({ view: none, type: named('torch', 'ByteStorage'), count: 3 }) }),
        ),
      ),
    }),
    'used with several lengths',
  ],
  'legacy-tar.pt': [bytes(Buffer.alloc(257), 'ustar', Buffer.alloc(500)), 'tar format'],

  // safetensors
  'cut.safetensors': [bytes(little(2, 8)).subarray(0, 7), 'it has 7 bytes'],
  'header-huge.safetensors': [safetensors('{}', 0, 2 ** 40), "more than the format's limit"],
  'header-negative.safetensors': [safetensors('{}', 0, -1), "more than the format's limit"],
  'header-cut.safetensors': [safetensors('{}', 0, 99_999_999), 'the file ends after 10'],
  'header-text.safetensors': [bytes(little(2, 8), 0xff, 0xfe), 'not even UTF-8'],
  'header-list.safetensors': [safetensors('[]'), 'not a JSON object'],
  'header-deep.safetensors': [safetensors(`{"a":${'['.repeat(3000)}`), 'is not an object'],
  'header-deeper.safetensors': [safetensors(`{"a":{"shape":${'['.repeat(3000)}`), 'nested too deeply'],
  'twice.safetensors': [
    safetensors(`{"a":${float2(0, 8)},"a":${float2(0, 8)}}`, 8),
    "two of its entries are named 'a'",
  ],
  'overlap.safetensors': [safetensors(`{"a":${float2(0, 8)},"b":${float2(4, 12)}}`, 12), 'overlap'],
  'gap.safetensors': [safetensors(`{"a":${float2(0, 8)},"b":${float2(9, 17)}}`, 17), "1 bytes before tensor 'b'"],
  'reversed.safetensors': [safetensors(`{"a":${float2(8, 0)}}`, 8), 'bad data_offsets'],
  'beyond.safetensors': [safetensors(`{"a":${float2(0, 8)},"b":${float2(8, 16)}}`, 8), 'cut off'],
  'overflow.safetensors': [
    safetensors('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
    'more elements than can be counted',
  ],
  'wrapping.safetensors': [
    safetensors('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,0]}}'),
    'bad shape',
  ],
  'mismatch.safetensors': [safetensors(`{"a":${float2(0, 4)}}`, 4), 'takes 8 bytes, but its data_offsets span 4'],
  'dtype.safetensors': [safetensors('{"a":{"dtype":"F99","shape":[0],"data_offsets":[0,0]}}'), 'unknown dtype "F99"'],
  'prototype.safetensors': [safetensors('{"__proto__":{"x":"y"},"constructor":{}}'), 'unknown dtype nothing'],
};

/** Every file of the corpus by name. */
export const corpus: ReadonlyMap<string, CorpusFile> = new Map<string, CorpusFile>([
  ...Object.entries(sound).map(([name, content]): [string, CorpusFile] => [name, { content, reason: null }]),
  ...Object.entries(hostile).map(([name, [content, reason]]): [string, CorpusFile] => [name, { content, reason }]),
]);

if (require.main === module) {
  rmSync(corpusFolder, { recursive: true, force: true });
  mkdirSync(corpusFolder);
  for (const [name, { content }] of corpus) writeFileSync(join(corpusFolder, name), content);
}
