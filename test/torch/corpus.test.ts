import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  isTensor,
  KontrastError,
  memory,
  readPyTorchFile,
  readSafetensors,
  scope,
  type PyTorchValue,
} from '../../src/torch';
import { openSource, readBytes } from '../../src/torch/byte-source';
import { dataStart, readZipDirectory } from '../../src/torch/zip';
import { storedZip } from '../support/stored-zip';
import { corpus, corpusFolder } from './corpus/make';

const golden = join(__dirname, '..', 'golden', 'pt');

/** Reads a file, and every element of every small tensor in it. */
function readAll(file: string | Uint8Array, isSafetensors: boolean, checksums = true): void {
  scope(() => {
    const value = isSafetensors
      ? new Map<PyTorchValue, PyTorchValue>(Object.entries(readSafetensors(file).tensors))
      : readPyTorchFile(file, { checksums });
    const visit = (item: PyTorchValue): void => {
      if (isTensor(item)) {
        // A stride of 0 makes any number of elements of one.
        if (item.numel() < 1000) item.bytesSync();
      } else if (item instanceof Map) for (const pair of item) pair.forEach(visit);
      else if (Array.isArray(item) || item instanceof Set) for (const each of item) visit(each);
    };
    visit(value);
  });
}

/** Numbers from 0 to 2 ** 32, the same for the same seed (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const edges = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
/** Bytes that instructions of pickles and signs of JSON are made of. */
const signs = Buffer.from(
  '(.012GJKMNQRTUX]abcehjqrstu)}BC{}[]",:-\n\x80\x81\x85\x8a\x8b\x8c\x8d\x8e\x90\x93\x94\x95',
  'latin1',
);

/** The bytes with one to three damages. */
function damage(content: Buffer, other: Buffer, next: (below: number) => number): Buffer {
  let bytes: Buffer = Buffer.from(content);
  for (let times = 1 + next(3); times > 0; times--) {
    const at = next(bytes.length + 1);
    const length = Math.min(1 + next(next(4) === 0 ? 64 : 4), bytes.length - at);
    const cut = (insert: Uint8Array, from: number): Buffer =>
      Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(from)]);
    switch (next(8)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << next(8);
        break;
      case 1:
        if (at < bytes.length) bytes[at] = signs[next(signs.length)]!;
        break;
      case 2: {
        const edge = Buffer.alloc(8);
        edge.writeBigUInt64LE(edges[next(edges.length)]!);
        edge.copy(bytes, at, 0, [1, 2, 4, 8][next(4)]!);
        break;
      }
      case 3:
        bytes = cut(new Uint8Array(0), at + length);
        break;
      case 4:
        bytes = cut(bytes.subarray(at, at + length), at);
        break;
      case 5:
        bytes = cut(
          Uint8Array.from({ length: 1 + next(8) }, () => next(256)),
          at,
        );
        break;
      case 6: {
        const from = next(other.length);
        bytes = cut(other.subarray(from, from + 1 + next(40)), at + length);
        break;
      }
      case 7:
        if (next(8) === 0) bytes = bytes.subarray(0, at);
        else bytes.subarray(at, at + length).reverse();
        break;
    }
  }
  return bytes;
}

/** The archive with a damaged pickle in it, and all else as it should be. */
function damagePickle(archive: Buffer, other: Buffer, next: (below: number) => number): Buffer {
  const source = openSource(archive);
  const entries = [...readZipDirectory(source)].map(([name, entry]) => {
    const content = readBytes(source, dataStart(source, entry), entry.size);
    return { name, content: name.endsWith('data.pkl') ? damage(content, other, next) : content };
  });
  return storedZip(entries);
}

describe('corpus', () => {
  it('is what its script writes', () => {
    assert.deepEqual(readdirSync(corpusFolder).sort(), [...corpus.keys()].sort());
    for (const [name, { content }] of corpus) {
      assert.ok(readFileSync(join(corpusFolder, name)).equals(content), `${name}: run test/torch/corpus/make.ts`);
    }
  });

  for (const [name, { reason }] of corpus) {
    const isSafetensors = name.endsWith('.safetensors');
    const file = join(corpusFolder, name);
    if (reason === null) {
      it(`reads ${name}`, () => readAll(file, isSafetensors));
      continue;
    }
    it(`refuses ${name}`, () => {
      const before = memory().liveTensors;
      assert.throws(
        () => readAll(file, isSafetensors),
        (error: unknown) => {
          assert.ok(error instanceof KontrastError, String(error));
          assert.equal(error.code, isSafetensors ? 'SAFETENSORS' : 'PYTORCH_FILE');
          assert.ok(error.message.includes(`'${file}'`), error.message);
          assert.match(error.message, new RegExp(reason));
          return true;
        },
      );
      assert.equal(memory().liveTensors, before);
    });
  }

  it('gives a value or an error, and no more memory than the file, whatever is damaged', () => {
    const seeds = [...corpus]
      .filter(([, { reason }]) => reason === null)
      .map(([name, { content }]) => ({ name, content }));
    for (const name of [
      'checkpoint.pt',
      'checkpoint_legacy.pt',
      'views.pt',
      'plain_protocol4.pt',
      'numpy.pt',
      'python.safetensors',
    ]) {
      seeds.push({ name, content: readFileSync(join(golden, name)) });
    }
    const next = random(20);
    const outcomes = { values: 0, errors: 0 };
    const tensorsBefore = memory().liveTensors;
    const peakBefore = process.resourceUsage().maxRSS;
    for (let round = 0; round < 6000; round++) {
      const { name, content } = seeds[round % seeds.length]!;
      const isArchive = content[0] === 0x50;
      const bytes = (isArchive && next(2) === 0 ? damagePickle : damage)(
        content,
        seeds[next(seeds.length)]!.content,
        next,
      );
      try {
        readAll(bytes, name.endsWith('.safetensors'), next(4) === 0);
        outcomes.values++;
      } catch (error) {
        if (!(error instanceof KontrastError)) {
          throw new Error(`round ${round}, from ${name}: ${bytes.toString('base64')}`, { cause: error });
        }
        outcomes.errors++;
      }
    }
    assert.ok(outcomes.values > 300 && outcomes.errors > 3000, JSON.stringify(outcomes));
    assert.equal(memory().liveTensors, tensorsBefore);
    const grown = (process.resourceUsage().maxRSS - peakBefore) / 1024;
    assert.ok(grown < 100, `the peak grew by ${grown} MiB`);
  });
});
