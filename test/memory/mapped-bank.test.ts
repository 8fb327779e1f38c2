import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import fc from 'fast-check';
import { MappedBank, type StoredDType } from '../../src/memory';
import { nearestRows } from '../../src/memory/nearest';
import {
  KontrastError,
  memory,
  readSafetensors,
  resetPeakMemory,
  scope,
  torch,
  writeSafetensors,
} from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { scratch } from '../support/scratch';
import { assertRefuses, ints, random, rowsOf } from './plain';

const failsWith = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof KontrastError && error.code === code && message.test(error.message);

describe('MappedBank', () => {
  const file = scratch();

  it('gives back what was written, in any order and in any blocks', () => {
    const rows = fc.uniqueArray(fc.integer({ min: 0, max: 8 }), { minLength: 1 });
    let made = 0;
    fc.assert(
      fc.property(
        rows,
        fc.array(fc.integer({ min: 0, max: 8 })),
        fc.integer({ min: 1, max: 4 }),
        (written, read, block) =>
          scope(() => {
            using bank = MappedBank.create(file(`${made++}`), {
              size: 9,
              dimension: 2,
              dtype: 'float64',
              labels: true,
              ids: true,
            });
            const model = torch.zeros([9, 2], { dtype: 'float64' });
            const x = random([written.length, 2]);
            const at = ints(written);
            bank.write(at, x, { labels: at, ids: at.mul(10) });
            model.indexCopy_(0, at.to('cpu'), x.to('cpu'));
            const found = bank.rows(ints(read), { block });
            assert.equal(found.device, device);
            assert.deepEqual(numbers(found), numbers(model.indexSelect(0, torch.tensor(read, { dtype: 'int64' }))));
            const isIn = (row: number) => (written.includes(row) ? row : 0);
            assert.deepEqual(numbers(bank.labels(ints(read))), read.map(isIn));
            assert.deepEqual(
              numbers(bank.ids(ints(read))),
              read.map((row) => 10 * isIn(row)),
            );
            const blocks = [...bank.blocks(block)];
            assert.deepEqual(
              blocks.map(({ start }) => start),
              Array.from({ length: Math.ceil(9 / block) }, (_, i) => i * block),
            );
            assert.deepEqual(
              blocks.flatMap(({ embeddings }) => numbers(embeddings)),
              numbers(model),
            );
            assert.deepEqual(
              blocks.flatMap(({ ids }) => numbers(ids!)),
              Array.from({ length: 9 }, (_, row) => 10 * isIn(row)),
            );
          }),
      ),
      { numRuns: 25, seed: 6 },
    );
  });

  it('is a file that others read, and that is there after closing', () => {
    for (const dtype of ['float32', 'bfloat16', 'float16', 'int8'] as StoredDType[]) {
      const path = file(dtype);
      const x = random([7, 3]);
      const bank = MappedBank.create(path, { size: 7, dimension: 3, dtype });
      bank.write(2, x.narrow(0, 0, 5));
      const inside = numbers(bank.rows(ints([2, 6, 0])));
      bank.flush();
      assert.equal(readSafetensors(path).tensors.embeddings!.dtype, dtype);
      bank.close();
      bank.close();
      using again = MappedBank.open(path);
      assert.deepEqual(
        [again.size, again.dimension, again.dtype, again.writes, again.writable],
        [7, 3, dtype, 1, false],
      );
      assert.deepEqual(numbers(again.rows(ints([2, 6, 0]))), inside);
      const scale = dtype === 'int8' ? 0.02 : 0.01;
      assertClose(again.rows(ints([2, 3, 4, 5, 6])).to({ dtype: 'float64' }), x.narrow(0, 0, 5), {
        atol: scale,
        rtol: scale,
      });
      assertRefuses(() => again.write(0, x), /is open for reading/);
      using third = MappedBank.open(path, { write: true });
      third.write(0, x.narrow(0, 5, 2));
      assert.equal(third.writes, 2);
      assertRefuses(() => bank.rows(ints([0])), /was closed/);
      assertRefuses(() => bank.flush(), /was closed/);
    }
  });

  it('shows another that has the file open what is written', () => {
    const path = file('shared');
    using writer = MappedBank.create(path, { size: 3, dimension: 1 });
    using other = MappedBank.open(path, { write: true });
    writer.write(1, torch.full([1, 1], 5));
    assert.deepEqual(numbers(other.rows(ints([0, 1, 2]))), [0, 5, 0]);
    assert.deepEqual(numbers(readSafetensors(path, { map: false }).tensors.embeddings!), [0, 5, 0]);
  });

  it('finds the nearest rows, block by block', () => {
    scope(() => {
      for (const dtype of ['float64', 'int8'] as const) {
        using bank = MappedBank.create(file(`nearest-${dtype}`), { size: 23, dimension: 4, dtype });
        bank.write(0, random([23, 4]));
        const queries = random([5, 4]);
        const found = bank.nearest(queries, { k: 6, block: 7 });
        const embeddings = bank.rows(ints(Array.from({ length: 23 }, (_, i) => i)));
        const whole = nearestRows(queries, [{ start: 0, embeddings }], 6);
        assert.deepEqual(numbers(found.rows), numbers(whole.rows));
        assertClose(found.similarities, whole.similarities, { atol: 1e-6 });
      }
    });
  });

  it('refuses files that are cut off, changed, foreign or of another version', () => {
    const path = file('bank');
    MappedBank.create(path, { size: 100, dimension: 8 }).close();
    const bytes = fs.readFileSync(path);
    for (const write of [false, true]) {
      for (const length of [0, 5, 60, bytes.length - 1]) {
        fs.writeFileSync(path, bytes.subarray(0, length));
        assert.throws(() => MappedBank.open(path, { write }), failsWith('SAFETENSORS', /bank/));
        assert.equal(fs.statSync(path).size, length);
      }
      fs.writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(3)]));
      assert.throws(() => MappedBank.open(path, { write }), failsWith('SAFETENSORS', /bank/));
      assert.throws(() => MappedBank.open(file('none'), { write }), failsWith('FILE_READ', /none/));
      const tensors = { embeddings: torch.zeros([2, 2]), writes: torch.zeros([1], { dtype: 'int64' }) };
      writeSafetensors(path, tensors);
      assertRefuses(() => MappedBank.open(path, { write }), /is no bank/);
      writeSafetensors(path, tensors, { format: 'kontrast bank', version: '2' });
      assertRefuses(() => MappedBank.open(path, { write }), /has version 2 of the format, and this is version 1/);
      writeSafetensors(path, { ...tensors, labels: torch.zeros([2]) }, { format: 'kontrast bank', version: '1' });
      assertRefuses(() => MappedBank.open(path, { write }), /does not have the columns of a bank/);
    }
  });

  it('refuses to write where it may not, and leaves no file where there is no room', () => {
    const path = file('bank');
    MappedBank.create(path, { size: 2, dimension: 2 }).close();
    assertRefuses(() => MappedBank.create(path, { size: 2, dimension: 2 }), /is there already/);
    MappedBank.create(path, { size: 3, dimension: 2, overwrite: true }).close();
    fs.chmodSync(path, 0o444);
    assert.throws(() => MappedBank.open(path, { write: true }), failsWith('FILE_WRITE', /it is read only/));
    using bank = MappedBank.open(path);
    assert.equal(bank.size, 3);
    const huge = { size: 2 ** 40, dimension: 1024 };
    assert.throws(() => MappedBank.create(file('huge'), huge), failsWith('FILE_WRITE', /the disk has \d+ left/));
    assert.throws(
      () => MappedBank.create(file('no/folder'), { size: 1, dimension: 1 }),
      failsWith('FILE_WRITE', /ENOENT/),
    );
    assert.deepEqual(fs.readdirSync(file('.')), ['bank']);
  });

  it('knows in its state whether the file moved on, and goes back to a copy', () => {
    const [path, copy] = [file('bank'), file('copy')];
    const bank = MappedBank.create(path, { size: 3, dimension: 1 });
    bank.write(0, torch.ones([2, 1]));
    bank.copyTo(copy);
    const state = bank.stateDict();
    bank.loadStateDict(state);
    bank.write(0, torch.full([1, 1], 9));
    assertRefuses(() => bank.loadStateDict(state), /had had 1 writes; '.*' has had 2: put back the copy/);
    bank.close();
    fs.renameSync(copy, path);
    using back = MappedBank.open(path, { write: true });
    back.loadStateDict(state);
    assert.deepEqual(numbers(back.rows(ints([0, 1, 2]))), [1, 1, 0]);
    const other = MappedBank.create(file('other'), { size: 4, dimension: 1 });
    assertRefuses(() => back.loadStateDict(other.stateDict()), /'size' is 4, this one has 3/);
    other.close();
  });

  it('refuses rows that do not fit, before anything changes', () => {
    using bank = MappedBank.create(file('bank'), { size: 3, dimension: 2, labels: true });
    const [x, labels] = [random([2, 2]), ints([1, 2])];
    assertRefuses(() => bank.write(2, x, { labels }), /2 rows from row 2 on do not fit into 3/);
    assertRefuses(() => bank.write(-1, x, { labels }), /first row must be an integer of at least 0/);
    assertRefuses(() => bank.write(ints([1, 1]), x, { labels }), /rows must be distinct/);
    assertRefuses(() => bank.write(ints([1, 3]), x, { labels }), /rows must be from 0 to 2, found 3/);
    assertRefuses(() => bank.write(0, x), /every row needs labels/);
    assertRefuses(() => bank.write(0, x, { labels, ids: labels }), /made without ids/);
    assertRefuses(() => bank.write(0, random([2, 3]), { labels }), /shape \[N, 2\], found \[2, 3\]/);
    assertRefuses(() => bank.ids(ints([0])), /made without ids/);
    assertRefuses(() => bank.rows(ints([3])), /rows must be from 0 to 2, found 3/);
    assertRefuses(() => bank.nearest(x, { k: 4 }), /4 neighbours were asked for, and it has 3 rows/);
    assert.deepEqual([bank.writes, numbers(bank.rows(ints([0, 1, 2])))], [0, [0, 0, 0, 0, 0, 0]]);
  });

  it('searches with the memory of one block', () => {
    const size = 2 ** 15;
    const bank = MappedBank.create(file('bank'), { size, dimension: 64, dtype: 'int8' });
    const queries = random([2, 64]);
    const before = memory().cpuBytes;
    resetPeakMemory();
    bank.nearest(queries, { k: 2, block: 1024 }).rows.dispose();
    // All in float32 would be 8 MB.
    assert.ok(memory().peakCpuBytes - before < 2 ** 21, `${memory().peakCpuBytes - before} bytes`);
    bank.close();
  });

  it('takes no memory for the map, and does not leak', () => {
    const empty = memory().cpuBytes;
    const bank = MappedBank.create(file('bank'), { size: 4096, dimension: 256 });
    assert.ok(memory().cpuBytes - empty < 2 ** 16);
    const [x, at] = [torch.ones([4, 256]), torch.tensor([1, 2, 3, 4], { dtype: 'int64' })];
    const before = memory();
    for (let i = 0; i < 4; i++) {
      bank.write(at, x);
      bank.rows(at).dispose();
      scope(() => void [...bank.blocks(1000)]);
    }
    assert.equal(memory().liveTensors, before.liveTensors);
    assert.deepEqual(
      rowsOf(bank.rows(at)).map((row) => row[255]),
      [1, 1, 1, 1],
    );
    bank.close();
  });
});
