import assert from 'node:assert/strict';
import { openSource, readBytes, type ByteSource } from '../../src/torch/byte-source';
import { checksum, dataStart, readZipDirectory, ZipDamage } from '../../src/torch/zip';
import { storedZip, type StoredEntry, type ZipEnd } from '../support/stored-zip';

const a: StoredEntry = { name: 'x/a', content: Buffer.from('first') };
const b: StoredEntry = {
  name: 'x/ü',
  content: Buffer.alloc(0),
  directory: { name: Buffer.from('x/ü').toString('latin1') },
};
const c: StoredEntry = { name: 'x/data/0', content: Buffer.from('the third') };

/** Reads everything that an archive holds, as the reader of files does. */
function readAll(archive: Uint8Array): Map<string, string> {
  const source = openSource(archive);
  const found = new Map<string, string>();
  for (const [name, entry] of readZipDirectory(source)) {
    const bytes = readBytes(source, dataStart(source, entry), entry.size);
    const check = checksum(entry);
    check(bytes.subarray(0, 2));
    check(bytes.subarray(2));
    check();
    found.set(name, bytes.toString());
  }
  return found;
}

/** A 64-bit extra field of these numbers, behind a field of another kind. */
function largeExtra(...numbers: bigint[]): Buffer {
  const bytes = Buffer.alloc(6 + 4 + 8 * numbers.length);
  bytes.writeUInt16LE(0x4246, 0);
  bytes.writeUInt16LE(2, 2);
  bytes.writeUInt16LE(1, 6);
  bytes.writeUInt16LE(8 * numbers.length, 8);
  numbers.forEach((number, i) => bytes.writeBigUInt64LE(number, 10 + 8 * i));
  return bytes;
}

const OVER = 0xffffffff;

describe('zip', () => {
  it('reads stored entries from where they lie', () => {
    const wanted = [
      ['x/a', 'first'],
      ['x/ü', ''],
      ['x/data/0', 'the third'],
    ];
    assert.deepEqual([...readAll(storedZip([a, b, c]))], wanted);
    assert.deepEqual([...readAll(storedZip([a, b, c], { large: true }))], wanted);
    const saturated = { count: 0xffff, size: OVER, start: OVER, large: true } as const;
    assert.deepEqual([...readAll(storedZip([a, b, c], saturated))], wanted);
    assert.deepEqual([...readAll(storedZip([]))], []);
  });

  it('takes sizes and places from the 64-bit field where they are left out', () => {
    const place = BigInt(30 + 3 + 5);
    const all = { ...c, directory: { size: OVER, stored: OVER, header: OVER }, extra: largeExtra(9n, 9n, place) };
    assert.equal(readAll(storedZip([a, all])).get('x/data/0'), 'the third');
    const one = { ...c, directory: { header: OVER }, extra: largeExtra(place) };
    assert.equal(readAll(storedZip([a, one])).get('x/data/0'), 'the third');
  });

  const lying = (entry: StoredEntry, directory: StoredEntry['directory']): StoredEntry => ({ ...entry, directory });
  const refused: Record<string, [readonly StoredEntry[], RegExp, ZipEnd?]> = {
    'a compressed entry': [[lying(a, { method: 8 })], /'x\/a' is compressed \(method 8, 5 bytes for 5\)/],
    'an entry that unpacks to more': [[lying(a, { size: 2 ** 31 })], /compressed \(method 0, 5 bytes for 2147483648\)/],
    'an encrypted entry': [[lying(a, { flags: 1 })], /'x\/a' is encrypted/],
    'damaged bytes': [[lying(a, { crc32: 1 })], /'x\/a' are damaged.*checksums: false/s],
    'an entry beyond the file': [[lying(a, { size: 500, stored: 500 })], /'x\/a' reaches beyond byte 38/],
    'an entry that starts beyond the file': [[lying(a, { header: 5000 })], /'x\/a' reaches beyond byte 38/],
    'entries on the same bytes': [[a, lying(c, { header: 0 })], /reaches beyond byte 0/],
    'an entry in the middle of another': [[lying(a, { size: 20, stored: 20 }), c], /'x\/a' reaches beyond byte 38/],
    'one name twice': [[a, a], /two of its entries are named 'x\/a'/],
    'no header in front of the bytes': [[lying(a, { header: 1 }), b], /'x\/a' (is not where|reaches beyond)/],
    'another name in front of the bytes': [[{ ...a, localName: 'x/b' }], /another name in front of its bytes/],
    'a longer name in front of the bytes': [[{ ...a, localName: 'x/aaaaaaaaaaaaaaa' }], /another name in front/],
    'a size that the 64-bit field lacks': [[lying(a, { size: OVER })], /lacks its 64-bit sizes/],
    'a 64-bit field that is too short': [
      [{ ...a, directory: { size: OVER, stored: OVER }, extra: largeExtra(5n) }],
      /lacks a 64-bit size or place/,
    ],
    'a size beyond every file': [
      [{ ...a, directory: { size: OVER, stored: OVER }, extra: largeExtra(2n ** 64n - 1n, 2n ** 64n - 1n) }],
      /reaches beyond/,
    ],
    'more entries than there are': [[a], /entry 1 of its directory is not there|claims 2 entries/, { count: 2 }],
    'far more entries': [[a], /claims 60000 entries in 49 bytes/, { count: 60000 }],
    'fewer entries': [[a, b], /bytes of its directory belong to no entry/, { count: 1 }],
    'a directory elsewhere': [[a], /should end at byte/, { start: 0 }],
    'a directory beyond the file': [[a], /should end at byte/, { start: 100000 }],
    'a directory of another length': [[a], /should end at byte/, { size: 48 }],
    'a part of an archive': [[a], /one part of an archive of several files/, { disk: 1 }],
    'a missing 64-bit record': [[a], /64-bit record of its directory is missing/, { start: OVER }],
    'a 64-bit record elsewhere': [[a], /record is not where the end/, { large: { record: 0n } }],
    'a 64-bit record beyond the file': [[a], /record lies outside/, { large: { record: 2n ** 63n } }],
    'a damaged 64-bit record': [[a], /record is not where the end/, { large: { signature: 1 } }],
    'a 64-bit directory beyond the file': [[a], /should end at byte/, { large: { start: 2n ** 64n - 1n } }],
    'a 64-bit count beyond the directory': [[a], /claims \d+ entries/, { large: { count: 2n ** 52n } }],
  };
  for (const name of ['/etc/passwd', '../a', 'x/../../a', 'x\\a', 'x\0a', '']) {
    refused[`the name ${JSON.stringify(name)}`] = [[lying(a, { name })], /the name of entry 0 is not safe/];
  }
  refused['a name that is not UTF-8'] = [[lying(a, { name: 'x/\xff' })], /the name of entry 0 is not UTF-8/];

  for (const [what, [entries, reason, end]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => readAll(storedZip(entries, end)),
        (error: unknown) => error instanceof ZipDamage && (assert.match(error.message, reason), true),
      );
    });
  }

  it('refuses an entry whose own header moves its bytes', () => {
    for (const length of [1, 40, 0xffff]) {
      const archive = storedZip([a, c]);
      archive.writeUInt16LE(length, 28);
      assert.throws(() => readAll(archive), /'x\/a' is not where its directory says \(byte 0\)/);
    }
  });

  it('refuses more entries than any model has before it makes room for them', () => {
    const count = 2 ** 20 + 1;
    const size = 46 * count;
    const archive = storedZip([], { large: { count: BigInt(count), size: BigInt(size), start: 0n } });
    const source: ByteSource = {
      ...openSource(archive),
      name: 'large',
      size: size + archive.byteLength,
      fill: (target, position) => void target.set(archive.subarray(position - size, position - size + target.length)),
    };
    // The record of 56 bytes ends the file but for the 42 after it.
    archive.writeBigUInt64LE(BigInt(size), 56 + 8);
    assert.throws(() => readZipDirectory(source), /claims 1048577 entries/);
  });

  it('refuses every shortening and what is put around it', () => {
    for (const large of [undefined, true] as const) {
      const archive = storedZip([a, b, c], { large });
      for (let length = 0; length < archive.byteLength; length++) {
        assert.throws(() => readAll(archive.subarray(0, length)), ZipDamage);
      }
      assert.throws(() => readAll(Buffer.concat([archive, Buffer.alloc(1)])), /does not end as a zip archive/);
      assert.throws(() => readAll(Buffer.concat([Buffer.alloc(1), archive])), ZipDamage);
    }
  });
});
