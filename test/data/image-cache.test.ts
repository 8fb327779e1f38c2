import * as assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { DataError, type DataErrorCode } from '../../src/data/errors';
import { openImageCache, readImageCache, writeImageCache, type ImageArchive } from '../../src/data/image-cache';
import { InvalidArgumentError } from '../../src/torch/errors';

function archive(): ImageArchive {
  const split = (count: number, first: number) => ({
    count,
    images: Uint8Array.from({ length: count * 12 }, (_, i) => (first + 7 * i) % 256),
    labels: Uint8Array.from({ length: count }, (_, i) => i % 3),
  });
  return {
    name: 'Dots',
    source: 'a test',
    channels: 2,
    height: 3,
    width: 2,
    classNames: ['none', 'één', 'two'],
    dropped: [{ class: 1, row: 5, reason: 'the row is empty' }],
    splits: { train: split(7, 1), test: split(4, 100), none: split(0, 0) },
  };
}

const failsWith =
  (code: DataErrorCode, ...parts: string[]) =>
  (error: unknown) => {
    assert.ok(error instanceof DataError, String(error));
    assert.equal(error.code, code, error.message);
    for (const part of parts) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
    return true;
  };

describe('image cache', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-cache-'));
    file = path.join(folder, 'data', 'dots.images');
  });
  afterEach(() => {
    fs.rmSync(folder, { recursive: true });
  });

  it('gives back each split as it was written, and leaves no other file', () => {
    const { splits, ...description } = archive();
    writeImageCache(file, archive());
    for (const [split, content] of Object.entries(splits)) {
      assert.deepEqual(readImageCache(file, 'Dots', split), { ...description, ...content, split });
    }
    assert.deepEqual(fs.readdirSync(path.dirname(file)), ['dots.images']);
  });

  it('finds truncations anywhere', () => {
    writeImageCache(file, archive());
    const bytes = fs.readFileSync(file);
    for (let length = 0; length < bytes.length; length += length < 60 ? 1 : 7) {
      fs.writeFileSync(file, bytes.subarray(0, length));
      assert.throws(() => readImageCache(file, 'Dots', 'test'), failsWith('DATA_CACHE_DAMAGED', file, 'cut off'));
    }
    fs.writeFileSync(file, Buffer.concat([bytes, Buffer.from([0])]));
    assert.throws(() => readImageCache(file, 'Dots', 'test'), failsWith('DATA_CACHE_DAMAGED', 'too long'));
  });

  it('finds a changed byte anywhere', () => {
    writeImageCache(file, archive());
    const bytes = fs.readFileSync(file);
    for (let at = 0; at < bytes.length; at += at < 60 ? 1 : 5) {
      const changed = Buffer.from(bytes);
      changed[at] ^= 0x10;
      fs.writeFileSync(file, changed);
      // Each split checks its own section, so one of the two reads must notice.
      assert.throws(
        () => ['train', 'test'].map((split) => readImageCache(file, 'Dots', split)),
        failsWith('DATA_CACHE_DAMAGED', file),
        `byte ${at}`,
      );
    }
  });

  it('says when the file is something else', () => {
    fs.mkdirSync(path.dirname(file));
    fs.writeFileSync(file, 'not a cache at all, but long enough to be one: '.repeat(4));
    assert.throws(() => readImageCache(file, 'Dots', 'test'), failsWith('DATA_CACHE_DAMAGED', 'wrong magic'));
    writeImageCache(file, archive());
    assert.throws(
      () => readImageCache(file, 'Stripes', 'test'),
      failsWith('DATA_CACHE_DAMAGED', '"Dots"', '"Stripes"'),
    );
    const bytes = fs.readFileSync(file);
    bytes.writeUInt32LE(99, 8);
    fs.writeFileSync(file, bytes);
    assert.throws(() => readImageCache(file, 'Dots', 'test'), failsWith('DATA_CACHE_DAMAGED', 'version 99'));
  });

  it('knows a missing file and a split that is not there', () => {
    assert.throws(() => readImageCache(file, 'Dots', 'test'), failsWith('DATA_CACHE_MISSING', file));
    writeImageCache(file, archive());
    for (const split of ['validation', 'toString']) {
      assert.throws(
        () => readImageCache(file, 'Dots', split),
        (error) => error instanceof InvalidArgumentError && error.message.includes('train, test, none'),
      );
    }
  });

  it('writes nothing that contradicts itself', () => {
    const short = archive();
    short.splits.train.images = short.splits.train.images.subarray(1);
    assert.throws(() => writeImageCache(file, short), InvalidArgumentError);
    const unknown = archive();
    unknown.splits.train.labels[2] = 3;
    assert.throws(() => writeImageCache(file, unknown), InvalidArgumentError);
    assert.ok(!fs.existsSync(path.dirname(file)));
  });

  it('says when the folder cannot be made', () => {
    fs.writeFileSync(path.join(folder, 'data'), 'a file where the folder should be');
    assert.throws(() => writeImageCache(file, archive()), failsWith('DATA_CACHE_UNUSABLE', file, 'KONTRAST_CACHE'));
    assert.throws(() => readImageCache(file, 'Dots', 'test'), failsWith('DATA_CACHE_UNUSABLE', file, 'KONTRAST_CACHE'));
  });

  describe('openImageCache', () => {
    const open = (convert: () => ImageArchive, lines: string[] = []) =>
      openImageCache({ file, name: 'Dots', split: 'test', convert, log: (line) => lines.push(line) });
    const missing = () => {
      throw new DataError('The npm package "dots" is missing: npm install dots', 'DATA_PACKAGE_MISSING');
    };

    it('converts once', () => {
      const lines: string[] = [];
      const first = open(archive, lines);
      assert.deepEqual(lines, [`Converted Dots (a test) to ${file}`]);
      assert.deepEqual(open(missing, lines), first);
      assert.equal(lines.length, 1);
    });

    it('passes on that the source is missing', () => {
      assert.throws(() => open(missing), failsWith('DATA_PACKAGE_MISSING', 'npm install dots'));
    });

    it('finds a folder that cannot be written before it converts', () => {
      const closed = path.join(folder, 'link');
      fs.symlinkSync(path.join(folder, 'nothing'), closed);
      let conversions = 0;
      const convert = (): ImageArchive => {
        conversions++;
        return archive();
      };
      assert.throws(
        () => openImageCache({ file: path.join(closed, 'dots.images'), name: 'Dots', split: 'test', convert }),
        failsWith('DATA_CACHE_UNUSABLE', closed, 'KONTRAST_CACHE'),
      );
      assert.equal(conversions, 0);
    });

    it('makes a damaged cache again and says so in one line', () => {
      const first = open(archive);
      fs.truncateSync(file, fs.statSync(file).size - 1);
      const lines: string[] = [];
      assert.deepEqual(open(archive, lines), first);
      assert.equal(lines.length, 1);
      assert.match(lines[0], /cut off.*Made it again from a test\.$/);
    });

    it('says both when the cache is damaged and the source is missing, and leaves the cache', () => {
      open(archive);
      fs.truncateSync(file, 100);
      assert.throws(() => open(missing), failsWith('DATA_CACHE_DAMAGED', file, 'cut off', 'npm install dots'));
      assert.equal(fs.statSync(file).size, 100);
    });
  });
});
