import assert from 'node:assert/strict';
import { OutOfMemoryError, torch, TorchError } from '../../src/torch';
import { errorFromNative } from '../../src/torch/errors';
import { device, onCuda } from '../support/device';

const GiB = 2 ** 30;

/** As LibTorch writes it when a CUDA device is full. */
const cudaMessage =
  'CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 512.00 MiB is free. ' +
  'Including non-PyTorch memory, this process has 78.60 GiB memory in use. 70.00 GiB allowed; Of the allocated memory 77.25 ' +
  'GiB is allocated by PyTorch, with 48.00 MiB allocated in private pools (e.g., CUDA Graphs), and 812.00 KiB is reserved ' +
  'by PyTorch but unallocated.';

describe('errors', () => {
  it('tell what was asked for when the memory of the CPU is short', () => {
    const bytes = 2 ** 47;
    assert.throws(
      () => torch.empty([2 ** 45]),
      (error: unknown) => {
        assert.ok(error instanceof OutOfMemoryError);
        assert.equal(error.code, 'OUT_OF_MEMORY');
        assert.equal(error.operator, 'aten::empty');
        assert.equal(error.requestedBytes, bytes);
        assert.ok(!('freeBytes' in error));
        assert.match(error.message, /scope/);
        return true;
      },
    );
  });

  it('take the numbers out of what LibTorch says of a full CUDA device', () => {
    const error = errorFromNative({ code: 'OUT_OF_MEMORY', message: cudaMessage });
    assert.ok(error instanceof OutOfMemoryError);
    assert.equal(error.requestedBytes, 20 * GiB);
    assert.equal(error.totalBytes, Math.round(79.1 * GiB));
    assert.equal(error.freeBytes, GiB / 2);
    assert.equal(error.allocatedBytes, 77.25 * GiB);
    assert.equal(error.message, cudaMessage);

    const small = errorFromNative({
      code: 'OUT_OF_MEMORY',
      message: 'CUDA out of memory. Tried to allocate 512 bytes.',
    });
    assert.equal((small as OutOfMemoryError).requestedBytes, 512);
    const rejected = 'CUDA out of memory. Allocation was preemptively rejected. Requested size: 1.50 KiB.';
    const early = errorFromNative({ code: 'OUT_OF_MEMORY', message: rejected });
    assert.equal((early as OutOfMemoryError).requestedBytes, 1536);
  });

  it('leave out numbers that LibTorch does not tell', () => {
    for (const message of ['out of memory', 'CUDA out of memory. Tried to allocate more than 1EB memory.']) {
      const error = errorFromNative({ code: 'OUT_OF_MEMORY', message });
      assert.deepEqual(Object.keys(error).sort(), ['code', 'name'], message);
    }
  });

  it('know page-locked memory that is short, and leave other errors what they are', () => {
    const pinned = errorFromNative({ code: 'TORCH', message: 'CUDA error: out of memory\nSearch for it' });
    assert.ok(pinned instanceof OutOfMemoryError);
    const other = errorFromNative({ code: 'TORCH', message: 'CUDA error: misaligned address' });
    assert.ok(other instanceof TorchError && !(other instanceof OutOfMemoryError));
  });

  it('tell the numbers of a CUDA device that is full', function () {
    if (!onCuda) this.skip();
    const held = torch.ones([2 ** 20], { device });
    assert.throws(
      () => torch.empty([2 ** 45], { device }),
      (error: unknown) => {
        assert.ok(error instanceof OutOfMemoryError);
        assert.equal(error.requestedBytes, 2 ** 47);
        assert.ok(error.totalBytes! > GiB);
        assert.ok(error.freeBytes! <= error.totalBytes!);
        assert.ok(error.allocatedBytes! >= 2 ** 22);
        return true;
      },
    );
    assert.equal(held.sum().itemSync(), 2 ** 20);
  });
});
