import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { Generator, KontrastError, memory, torch, writeSafetensors } from '../../src/torch';
import type { Stateful } from '../../src/torch/state';
import { Linear, ReLU, Sequential, GELU } from '../../src/nn';
import { AdamW, SGD } from '../../src/optim';
import { describeCheckpoint, restoreCheckpoint, saveCheckpoint, type Part } from '../../src/train/checkpoint';

/** A counter with a tensor, as simple as state can be. */
class Counter implements Stateful {
  count = 0;
  readonly tensor = torch.zeros([2]);
  refuses = false;

  stateDict() {
    return { tensors: new Map([['tensor', this.tensor.detach()]]), values: { count: this.count } };
  }
  loadStateDict({ tensors, values }: ReturnType<Stateful['stateDict']>): void {
    if (this.refuses) throw new Error('no, thanks');
    this.tensor.copy_(tensors.get('tensor')!);
    this.count = (values as { count: number }).count;
  }
}

describe('checkpoint', () => {
  let folder: string;
  let file: string;
  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-checkpoint-'));
    file = path.join(folder, 'c.safetensors');
  });
  after(() => fs.rmSync(folder, { recursive: true }));

  const createModel = (hidden = 3): Sequential =>
    new Sequential(
      new Linear({ inFeatures: 2, outFeatures: hidden }),
      new ReLU(),
      new Linear({ inFeatures: hidden, outFeatures: 1 }),
    );

  function createParts() {
    const model = createModel();
    return {
      model,
      counter: new Counter(),
      random: new Generator({ seed: 1 }),
      optimizer: new AdamW(model.parameters()),
    };
  }

  /** Every byte and number of the parts. */
  function snapshot(parts: ReturnType<typeof createParts>): unknown {
    const bytes = (tensors: ReadonlyMap<string, { bytesSync(): Uint8Array }>): unknown =>
      Object.fromEntries([...tensors].map(([name, tensor]) => [name, Buffer.from(tensor.bytesSync()).toString('hex')]));
    return [
      bytes(parts.model.stateDict()),
      bytes(parts.counter.stateDict().tensors),
      parts.counter.count,
      Buffer.from(parts.random.getState().bytesSync()).toString('hex'),
      bytes(parts.optimizer.stateDict().tensors),
      parts.optimizer.stateDict().values,
    ];
  }

  function advance({ model, counter, random, optimizer }: ReturnType<typeof createParts>): void {
    model
      .forward(torch.randn([4, 2], { generator: random }))
      .sum()
      .backward();
    optimizer.step();
    optimizer.zeroGrad();
    counter.count++;
    counter.tensor.add_(1);
  }

  function assertRefused(parts: Readonly<Record<string, Part>>, what: RegExp, options?: object): void {
    assert.throws(
      () => restoreCheckpoint(file, parts, { growing: ['optimizer'], ...options }),
      (error: unknown) => {
        assert.ok(error instanceof KontrastError, String(error));
        assert.ok(error.message.includes(file), error.message);
        assert.match(error.message, what);
        return true;
      },
    );
  }

  it('restores every bit', () => {
    const parts = createParts();
    advance(parts);
    const expected = snapshot(parts);
    saveCheckpoint(file, { trainer: { step: 1 }, parts });
    const other = createParts();
    assert.notDeepEqual(snapshot(other), expected);
    assert.deepEqual(restoreCheckpoint(file, other, { growing: ['optimizer'] }), { step: 1 });
    assert.deepEqual(snapshot(other), expected);
    advance(parts);
    advance(other);
    assert.deepEqual(snapshot(other), snapshot(parts));
  });

  it('says what it is without its tensors', () => {
    saveCheckpoint(file, { trainer: { step: 7 }, parts: createParts() });
    assert.deepEqual(describeCheckpoint(file), { path: file, run: null, trainer: { step: 7 } });
  });

  it('lists the first names and shapes of another architecture', () => {
    saveCheckpoint(file, { trainer: {}, parts: createParts() });
    const parts = { ...createParts(), model: createModel(5) };
    const before = snapshot(parts);
    assertRefused(
      parts,
      /another architecture.*\n {2}model\.0\.weight: float32 \[3, 2\] in the checkpoint, float32 \[5, 2\] in the run/,
    );
    assert.deepEqual(snapshot(parts), before);
    const larger = {
      ...createParts(),
      model: new Sequential(...[1, 2, 3, 4].map(() => new Linear({ inFeatures: 2, outFeatures: 2 }))),
    };
    assertRefused(
      larger,
      /model\.1\.weight: not there in the checkpoint, float32 \[2, 2\] in the run[^]*… and \d+ more\nUse the options and the recipe/,
    );
  });

  it('tells modules of other classes apart although all shapes fit', () => {
    saveCheckpoint(file, { trainer: {}, parts: createParts() });
    const model = new Sequential(
      new Linear({ inFeatures: 2, outFeatures: 3 }),
      new GELU(),
      new Linear({ inFeatures: 3, outFeatures: 1 }),
    );
    assertRefused({ ...createParts(), model }, /model\.1: ReLU in the checkpoint, GELU in the run/);
  });

  it('gives every part its old state back when one refuses', () => {
    const saved = createParts();
    advance(saved);
    saveCheckpoint(file, { trainer: {}, parts: saved });
    const parts = createParts();
    const before = snapshot(parts);
    parts.counter.refuses = true;
    const { counter, ...others } = parts;
    assert.throws(() => restoreCheckpoint(file, { ...others, counter }, { growing: ['optimizer'] }), /no, thanks/);
    assert.deepEqual(snapshot(parts), before);
  });

  it('refuses other parts', () => {
    const parts = createParts();
    saveCheckpoint(file, { trainer: {}, parts });
    const sgd = new SGD(parts.model.parameters(), { lr: 0.1 });
    assertRefused({ ...parts, optimizer: sgd }, /optimizer: .* SGD; use the recipe as it was/);
    assertRefused({ ...parts, queue: new Counter() }, /its parts differ from the run's; it lacks queue/);
    const { counter, ...fewer } = parts;
    assertRefused(fewer, /it has besides counter\. Use the recipe as it was/);
    restoreCheckpoint(file, { counter }, { only: true });
  });

  it('refuses a part whose name has a dot', () => {
    assert.throws(() => saveCheckpoint(file, { trainer: {}, parts: { 'a.b': new Counter() } }), /'a\.b'.*dot/);
  });

  it('refuses files that are cut off, foreign, or of another version, without a change', () => {
    const parts = createParts();
    saveCheckpoint(file, { trainer: {}, parts });
    const before = snapshot(parts);
    fs.truncateSync(file, fs.statSync(file).size - 3);
    assertRefused(parts, /cut off.*; use an older checkpoint .*--overwrite/);
    writeSafetensors(file, { a: torch.ones([1]) });
    assertRefused(parts, /no checkpoint of kontrast; name a run's folder/);
    writeSafetensors(file, {}, { format: 'kontrast-checkpoint', version: '999' });
    assertRefused(parts, /version 999, this kontrast reads version 1; use the kontrast that wrote it/);
    writeSafetensors(file, {}, { format: 'kontrast-checkpoint', version: '1' });
    assertRefused(parts, /metadata entry 'trainer' is missing or not JSON; use an older checkpoint/);
    fs.rmSync(file);
    assertRefused(parts, /cannot read/);
    assert.deepEqual(snapshot(parts), before);
  });

  it('leaves no tensor behind', () => {
    const parts = createParts();
    advance(parts);
    saveCheckpoint(file, { trainer: {}, parts });
    restoreCheckpoint(file, parts, { growing: ['optimizer'] });
    const live = memory().liveTensors;
    for (let i = 0; i < 3; i++) {
      saveCheckpoint(file, { trainer: {}, parts });
      restoreCheckpoint(file, parts, { growing: ['optimizer'] });
    }
    assert.equal(memory().liveTensors, live);
  });
});
