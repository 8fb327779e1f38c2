/** TorchScript archives made by hand, and damaged ones. */
import { crc32 } from 'node:zlib';

/** One file in an archive. */
export interface Entry {
  name: string;
  content: Buffer;
}

/** Numbers from 0 to below 1, by a seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The entries of an archive that compresses nothing, in which each follows the other. */
export function readEntries(archive: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; archive.readUInt32LE(at) === 0x04034b50;) {
    const length = archive.readUInt32LE(at + 18);
    const nameEnd = at + 30 + archive.readUInt16LE(at + 26);
    const start = nameEnd + archive.readUInt16LE(at + 28);
    entries.push({
      name: archive.toString('utf8', at + 30, nameEnd),
      content: archive.subarray(start, start + length),
    });
    at = start + length;
  }
  return entries;
}

/** A sound archive of entries, whatever is in them. */
export function writeEntries(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content } of entries) {
    const encodedName = Buffer.from(name);
    // Version, flags, method, time, date, checksum, both sizes, lengths of the name and of what follows it.
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0);
    shared.writeUInt32LE(crc32(content), 10);
    shared.writeUInt32LE(content.length, 14);
    shared.writeUInt32LE(content.length, 18);
    shared.writeUInt16LE(encodedName.length, 22);
    const header = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), shared, encodedName, content]);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), shared, place, encodedName);
    parts.push(header);
    offset += header.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, listed, end]);
}

function damage(bytes: Buffer, random: () => number): Buffer {
  const upTo = (limit: number): number => Math.floor(random() * limit);
  const damaged = Buffer.from(bytes);
  const place = upTo(bytes.length);
  const length = 1 + upTo(16);
  switch (upTo(5)) {
    case 0: // single bits
      for (let i = 0; i <= upTo(4); i++) damaged[upTo(damaged.length)]! ^= 1 << upTo(8);
      return damaged;
    case 1: // other bytes
      for (let i = place; i < Math.min(place + length, damaged.length); i++) damaged[i] = upTo(256);
      return damaged;
    case 2: // a part is missing
      return Buffer.concat([damaged.subarray(0, place), damaged.subarray(place + length)]);
    case 3: // a part comes twice
      return Buffer.concat([damaged.subarray(0, place + length), damaged.subarray(place)]);
    default: // numbers at their limits
      return damaged.fill(
        Buffer.from([[0xff], [0x7f], [0x80], [0x00]][upTo(4)]!),
        place,
        Math.min(place + 4, bytes.length),
      );
  }
}

/** The archive with damage number `index`, the same for the same seed: to its bytes, its end, its list of entries, or the content of an entry. */
export function mutate(archive: Buffer, seed: number, index: number): Buffer {
  const random = randomNumbers(seed * 1_000_003 + index);
  const upTo = (limit: number): number => Math.floor(random() * limit);
  const kind = upTo(10);
  if (kind === 0) return archive.subarray(0, upTo(archive.length));
  if (kind === 1) return damage(archive, random);
  if (kind === 2) return Buffer.from(Array.from({ length: upTo(archive.length) }, () => upTo(256)));
  const entries = readEntries(archive);
  const [a, b] = [upTo(entries.length), upTo(entries.length)];
  if (kind === 3) entries.splice(a, 1);
  else if (kind === 4) [entries[a]!.content, entries[b]!.content] = [entries[b]!.content, entries[a]!.content];
  else entries[a]!.content = damage(entries[a]!.content, random);
  return writeEntries(entries);
}

/** Text in a pickle. */
const text = (value: string): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(value));
  return Buffer.concat([Buffer.from('X'), length, Buffer.from(value)]);
};
/** An integer in a pickle. */
const integer = (value: number): Buffer => {
  const bytes = Buffer.alloc(10);
  bytes.write('\x8a\x08', 'latin1');
  bytes.writeBigInt64LE(BigInt(value), 2);
  return bytes;
};
/** Instructions of a pickle. */
export const code = (instructions: string): Buffer => Buffer.from(instructions, 'latin1');
const tuple = (...items: Buffer[]): Buffer => Buffer.concat([code('('), ...items, code('t')]);
/** A whole pickle. */
export const pickle = (...parts: Buffer[]): Buffer => Buffer.concat([code('\x80\x02'), ...parts, code('.')]);
/** A storage of float32, in a pickle. */
export const storage = (count: number, device = 'cpu', key = '0'): Buffer =>
  Buffer.concat([
    tuple(text('storage'), code('ctorch\nFloatStorage\n'), text(key), text(device), integer(count)),
    code('Q'),
  ]);
/** The entries of a module with one parameter, over a record of the numbers 1 to 4 unless another is given. */
export function moduleWith(
  store: Buffer,
  offset: number,
  sizes: readonly number[],
  strides: readonly number[],
  options: { constants?: Buffer; record?: Buffer } = {},
): Entry[] {
  const { constants = code(')'), record = Buffer.from(new Float32Array([1, 2, 3, 4]).buffer) } = options;
  const tensor = Buffer.concat([
    code('ctorch._utils\n_rebuild_tensor_v2\n'),
    tuple(store, integer(offset), tuple(...sizes.map(integer)), tuple(...strides.map(integer)), code('\x89N')),
    code('R'),
  ]);
  const state = Buffer.concat([code('}('), text('w'), tensor, text('training'), code('\x88u')]);
  const source = [
    'class M(Module):',
    '  __parameters__ = ["w", ]',
    '  __buffers__ = []',
    '  w : Tensor',
    '  training : bool',
    '  def forward(self: __torch__.M,',
    '    x: Tensor) -> Tensor:',
    '    return torch.add(x, self.w)',
    '',
  ].join('\n');
  return [
    { name: 'm/data.pkl', content: pickle(code('c__torch__\nM\n)\x81'), state, code('b')) },
    { name: 'm/data/0', content: record },
    { name: 'm/constants.pkl', content: pickle(constants) },
    { name: 'm/code/__torch__.py', content: Buffer.from(source) },
    { name: 'm/version', content: Buffer.from('3\n') },
  ];
}
