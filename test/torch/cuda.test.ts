import assert from 'node:assert/strict';
import { cuda, Generator, InvalidArgumentError, memory, synchronize, torch } from '../../src/torch';
import type { Device } from '../../src/torch';
import { onCuda } from '../support/device';

describe('cuda', () => {
  it('says that there is no device, whatever is asked of it', function () {
    if (cuda.isAvailable()) this.skip();
    assert.equal(cuda.deviceCount(), 0);
    const asked = {
      currentDevice: () => cuda.currentDevice(),
      setDevice: () => {
        cuda.setDevice(0);
      },
      withDevice: () => {
        cuda.withDevice(0, () => assert.fail('the callback must not run'));
      },
      properties: () => cuda.properties(),
      memoryStats: () => cuda.memoryStats(0),
      emptyCache: () => {
        cuda.emptyCache();
      },
      resetPeakMemory: () => {
        cuda.resetPeakMemory();
      },
      memory: () => memory('cuda'),
      synchronize: () => {
        synchronize();
      },
      generator: () => new Generator({ device: 'cuda' }),
      operator: () => torch.zeros([1], { device: 'cuda:3' }),
      again: () => torch.zeros([1], { device: 'cuda:3' }),
      to: () => torch.zeros([1]).to('cuda'),
    };
    for (const [name, ask] of Object.entries(asked)) {
      assert.throws(
        ask,
        (error: unknown) => {
          assert.ok(error instanceof InvalidArgumentError, `${name}: ${String(error)}`);
          assert.match(error.message, /the device 'cuda(:\d)?' does not exist: .*(LIBTORCH|nvidia-smi)/);
          return true;
        },
        name,
      );
    }
  });

  it('refuses what is no CUDA device', () => {
    for (const wrong of [-1, 1.5, NaN, 1000, '1' as never, 'cpu' as never]) {
      assert.throws(() => cuda.memoryStats(wrong), /not -1|not 1.5|not NaN|not 1000|device/);
    }
    assert.throws(() => {
      cuda.setDevice(-1);
    }, InvalidArgumentError);
    assert.throws(() => memory(0 as never), InvalidArgumentError);
  });

  it('leaves the memory of a CUDA device out when none is asked for', () => {
    assert.ok(!('cuda' in memory()));
    assert.ok(!('cuda' in memory('cpu')));
  });

  describe('with a device', () => {
    before(function () {
      if (!onCuda) this.skip();
    });

    it('names the devices that there are when another is asked for', () => {
      const missing = `cuda:${String(cuda.deviceCount())}` as Device;
      assert.throws(
        () => torch.zeros([1], { device: missing }),
        new RegExp(`'${missing}' does not exist: there (is 1 CUDA device|are \\d+ CUDA devices), 'cuda:0'`),
      );
      assert.throws(() => cuda.memoryStats(missing as 'cuda'), InvalidArgumentError);
    });

    it('chooses the current device', () => {
      const before = cuda.currentDevice();
      const last = cuda.deviceCount() - 1;
      cuda.withDevice(last, () => {
        assert.equal(cuda.currentDevice(), last);
        assert.equal(torch.ones([1], { device: 'cuda' }).device, `cuda:${String(last)}`);
      });
      assert.equal(cuda.currentDevice(), before);
      assert.throws(
        () =>
          cuda.withDevice(last, () => {
            throw new RangeError('its own');
          }),
        RangeError,
      );
      assert.equal(cuda.currentDevice(), before);
      assert.throws(() => cuda.withDevice(last, async () => Promise.resolve()), /synchronous/);
      assert.equal(cuda.currentDevice(), before);
      cuda.setDevice(last);
      assert.equal(cuda.currentDevice(), last);
      cuda.setDevice(before);
    });

    it('tells what a device is', () => {
      const { name, capability, multiprocessors, totalBytes } = cuda.properties();
      assert.ok(totalBytes > 2 ** 30);
      if (name === undefined) return;
      assert.ok(name.length > 3);
      assert.ok(capability![0] >= 5 && capability![0] < 30);
      assert.ok(capability![1] >= 0 && capability![1] < 10);
      assert.ok(multiprocessors! >= 1);
    });

    it('counts the memory of tensors', () => {
      const bytes = 2 ** 30;
      cuda.emptyCache();
      const before = cuda.memoryStats();
      cuda.resetPeakMemory();
      const held = torch.zeros([bytes], { device: 'cuda', dtype: 'uint8' });
      const during = memory('cuda').cuda!;
      assert.equal(during.allocatedBytes - before.allocatedBytes, bytes);
      assert.equal(during.allocations - before.allocations, 1);
      held.dispose();
      const after = cuda.memoryStats();
      assert.equal(after.allocatedBytes, before.allocatedBytes);
      assert.ok(after.peakAllocatedBytes >= before.allocatedBytes + bytes);
      assert.ok(after.reservedBytes >= before.reservedBytes + bytes);
      assert.ok(after.peakReservedBytes >= after.reservedBytes);
      assert.ok(after.freeBytes > 0 && after.freeBytes < after.totalBytes);
      cuda.emptyCache();
      assert.ok(cuda.memoryStats().reservedBytes <= after.reservedBytes - bytes);
      cuda.resetPeakMemory('cuda');
      const reset = cuda.memoryStats();
      assert.equal(reset.peakAllocatedBytes, reset.allocatedBytes);
    });
  });
});
