import assert from 'node:assert/strict';
import fs from 'node:fs';
import { openSource } from '../../src/torch/byte-source';
import { contiguousStrides, readStorage, tensorOn, writeTensor } from '../../src/torch/file-storage';
import { memory, scope, torch, type Tensor } from '../../src/torch';
import { scratch } from '../support/scratch';

describe('readStorage', () => {
  it('reads what is longer than one part, and shows every byte in order', () => {
    const length = 3 * (1 << 24) + 12345;
    const bytes = new Uint8Array(length + 7);
    for (let i = 0; i < bytes.length; i++) bytes[i] = i % 251;
    const before = memory().liveTensors;
    scope(() => {
      const seen: Buffer[] = [];
      const storage = readStorage(openSource(bytes), 7, length, (part) => seen.push(Buffer.from(part)));
      assert.equal(memory().liveTensors, before + 1);
      assert.ok(Buffer.from(storage.bytesSync()).equals(bytes.subarray(7)));
      assert.ok(Buffer.concat(seen).equals(bytes.subarray(7)));
    });
  });

  it('reads nothing', () => {
    scope(() => assert.deepEqual(readStorage(openSource(new Uint8Array(3)), 3, 0).shape, [0]));
  });
});

describe('writeTensor', () => {
  const path = scratch();

  it('writes the same in parts of any size, and at most so much at a time', () => {
    scope(() => {
      const x = torch.arange(35, { dtype: 'float64' }).view([5, 7]);
      const tensors: Tensor[] = [
        x,
        x.t(),
        x.narrow(1, 2, 3),
        x.to('bfloat16').t(),
        x.clone().requiresGrad_().mul(2),
        torch.fromTypedArray(Float32Array.of(1, 2, 3, 4), [2], { dtype: 'complex64' }).conj(),
        torch.zeros([0]),
      ];
      for (const tensor of tensors) {
        const wanted = tensor.bytesSync();
        for (const part of [1, 8, 20, 100, 1000]) {
          const file = fs.openSync(path('a'), 'w');
          const before = memory().liveTensors;
          writeTensor(file, tensor, wanted.byteLength, part);
          assert.equal(memory().liveTensors, before);
          fs.closeSync(file);
          assert.ok(fs.readFileSync(path('a')).equals(wanted));
        }
      }
    });
  });

  it('copies out one part at a time', () => {
    scope(() => {
      const lengths: number[] = [];
      const write = fs.writeSync;
      const file = fs.openSync(path('a'), 'w');
      try {
        const spied = ((to: number, bytes: Uint8Array, ...rest: [number, number]): number => {
          lengths.push(bytes.byteLength);
          return write(to, bytes, ...rest);
        }) as typeof fs.writeSync;
        fs.writeSync = spied;
        writeTensor(file, torch.arange(10), 80, 30);
      } finally {
        fs.writeSync = write;
        fs.closeSync(file);
      }
      assert.deepEqual(lengths, [24, 24, 24, 8]);
    });
  });
});

describe('tensorOn', () => {
  it('puts tensors of any dtype and layout on one memory', () => {
    scope(() => {
      const storage = readStorage(openSource(new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer)), 0, 24);
      const whole = tensorOn(storage, 'float32', [2, 3], [3, 1], 0);
      const part = tensorOn(storage, 'float32', [2, 2], [1, 2], 1);
      assert.deepEqual(part.toArraySync(), [
        [1, 3],
        [2, 4],
      ]);
      whole.mul_(10);
      assert.deepEqual(part.toArraySync(), [
        [10, 30],
        [20, 40],
      ]);
      storage.dispose();
      assert.deepEqual(whole.sum().itemSync(), 150);
      assert.equal(whole.isLeaf, true);
    });
  });
});

describe('contiguousStrides', () => {
  it('counts as LibTorch does', () => {
    scope(() => {
      for (const shape of [[], [3], [2, 3, 4], [1, 5, 1], [0], [2, 0, 3], [0, 0], [4, 1, 0]]) {
        assert.deepEqual(contiguousStrides(shape), torch.empty(shape).strides, JSON.stringify(shape));
      }
    });
  });
});
