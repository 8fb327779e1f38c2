import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { getThreads, KontrastError, memory, setThreads } from '../../src/torch';
import { readMetrics } from '../../src/train/metrics';
import type { RunRecord } from '../../src/train/run-folder';
import { Trainer, type TrainerOptions } from '../../src/train/trainer';
import { device } from '../support/device';
import { buildTiny, checkpointContent } from './fixtures/build';

describe('Trainer', () => {
  // Networks this small are quicker on one thread, by far when other processes keep the cores busy.
  const threads = getThreads();
  before(() => setThreads(1));
  after(() => setThreads(threads));

  let folder: string;
  beforeEach(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-trainer-'))));
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  /** Trains the tiny recipe, up to `stopAt` steps, into a folder; resumes what is there. */
  async function trainTiny(
    name: string,
    overrides: Record<string, unknown> = {},
    { stopAt = Infinity, ...options }: { stopAt?: number } & TrainerOptions = {},
  ): Promise<{ trainer: Trainer<never, never>; checkpoint: string; metrics: string }> {
    fs.mkdirSync(path.join(folder, name), { recursive: true });
    const checkpoint = path.join(folder, name, 'checkpoint-last.safetensors');
    const metrics = path.join(folder, name, 'metrics.jsonl');
    const stop = new AbortController();
    const trainer = new Trainer(await buildTiny(overrides, device), {
      device,
      checkpointPath: checkpoint,
      metricsPath: metrics,
      signal: stop.signal,
      progress: { start() {}, stop() {}, update: ({ step }) => step >= stopAt && stop.abort() },
      ...options,
    });
    if (fs.existsSync(checkpoint)) trainer.resume();
    const result = await trainer.run();
    assert.equal(result.interrupted, trainer.step < trainer.stepsTotal);
    return { trainer: trainer as unknown as Trainer<never, never>, checkpoint, metrics };
  }

  for (const precision of ['float32', 'bfloat16']) {
    it(`goes on bit for bit in the middle of an epoch, in ${precision}`, async function () {
      if (device !== 'cpu') this.skip();
      const whole = await trainTiny('whole', { precision });
      await trainTiny('parts', { precision }, { stopAt: 7 });
      await trainTiny('parts', { precision }, { stopAt: 8 });
      const parts = await trainTiny('parts', { precision });
      assert.deepEqual(checkpointContent(parts.checkpoint), checkpointContent(whole.checkpoint));
      const withoutTimes = (file: string): unknown =>
        readMetrics(file).map((entry) => ({ ...entry, imagesPerSecond: 0, residentBytes: 0, seconds: 0 }));
      assert.deepEqual(withoutTimes(parts.metrics), withoutTimes(whole.metrics));
    });
  }

  it('goes on from any kept checkpoint, and drops the metrics after it', async () => {
    const { checkpoint, metrics } = await trainTiny('a', {}, { stopAt: 8 });
    const expected = checkpointContent(checkpoint);
    fs.copyFileSync(path.join(folder, 'a', 'checkpoint-step-6.safetensors'), checkpoint);
    await trainTiny('a', {}, { stopAt: 8 });
    if (device === 'cpu') assert.deepEqual(checkpointContent(checkpoint), expected);
    assert.deepEqual(
      readMetrics(metrics).map(({ step }) => step),
      [2, 4, 6, 8],
    );
  });

  it('writes what the steps measured', async () => {
    const { metrics } = await trainTiny('a', { steps: 5 });
    const entries = readMetrics(metrics);
    assert.deepEqual(
      entries.map(({ step }) => step),
      [2, 4, 5],
    );
    assert.deepEqual(Object.keys(entries[0]!), [
      'step',
      'epoch',
      'loss',
      'learningRate',
      'imagesPerSecond',
      'residentBytes',
      'seconds',
      'positiveSimilarity',
      'negativeSimilarity',
      'accuracy',
    ]);
    for (const entry of entries) assert.ok(Object.values(entry).every(Number.isFinite), JSON.stringify(entry));
    assert.equal(entries[0]!.epoch, 0.5);
    assert.equal(entries[0]!.learningRate, 0.5e-2); // Step 1 of a warm-up of 3: (1 + 1) / (3 + 1).
  });

  it('keeps the last checkpoint and the number of older ones that was asked for', async () => {
    await trainTiny('a', { steps: 10 });
    assert.deepEqual(fs.readdirSync(path.join(folder, 'a')).sort(), [
      'checkpoint-last.safetensors',
      'checkpoint-step-10.safetensors',
      'checkpoint-step-9.safetensors',
      'metrics.jsonl',
    ]);
    assert.equal(checkpointContent(path.join(folder, 'a', 'checkpoint-step-9.safetensors')).step, 9);
  });

  it('stops at a loss that is NaN before a weight changed, and keeps the last checkpoint', async () => {
    const weights = (run: Awaited<ReturnType<typeof buildTiny>>): string[] =>
      run.optimizer.groups.flatMap(({ parameters }) =>
        parameters.map((each) => Buffer.from(each.detach().bytesSync()).toString('hex')),
      );
    const checkpointPath = path.join(folder, 'c.safetensors');
    const run = await buildTiny({ nanAt: 6, checkpointEvery: 5 }, device);
    let before: string[] = [];
    const progress = { start() {}, stop() {}, update: () => (before = weights(run)) };
    const trainer = new Trainer(run, { device, checkpointPath, progress });
    await assert.rejects(trainer.run(), (error: unknown) => {
      assert.ok(error instanceof KontrastError && error.code === 'NON_FINITE', String(error));
      assert.match(error.message, /the loss is NaN in step 6 of 20, at learning rate 0\.00\d+; .*changed no weight/);
      assert.match(error.message, /checkpoint of step 5 is kept: '.*c\.safetensors'/);
      assert.match(error.message, /lower learning rate/);
      return true;
    });
    assert.deepEqual(weights(run), before);
    assert.equal(checkpointContent(checkpointPath).step, 5);
  });

  it('does not save weights that are not finite', async () => {
    const checkpointPath = path.join(folder, 'c.safetensors');
    const run = await buildTiny({ checkpointEvery: 2 }, device);
    const progress = {
      start() {},
      stop() {},
      update: ({ step }: { step: number }) =>
        step === 4 && run.optimizer.groups[0]!.parameters[0]!.detach().fill_(Infinity),
    };
    await assert.rejects(
      new Trainer(run, { device, checkpointPath, progress }).run(),
      /a weight is NaN or infinite after step 4 of 20; nothing was saved.*step 2 is kept/,
    );
    assert.equal(checkpointContent(checkpointPath).step, 2);
  });

  it("names the recipe's own options that help against NaN", async () => {
    const options = { nanAt: 1, learningRate: 0.01, precision: 'bfloat16' };
    const build = async () => ({ ...(await buildTiny(options, device)), clipGradientNorm: undefined });
    const record = { recipe: 'tiny', options } as unknown as RunRecord;
    await assert.rejects(
      new Trainer(await build(), { device, record }).run(),
      /a lower learning rate \(--learning-rate\), a longer warm-up, a higher temperature, clipping the gradients \(clipGradientNorm\), precision 'float32' \(--precision\);.*--overwrite/,
    );
    await assert.rejects(new Trainer(await build(), { device }).run(), (error: Error) => {
      assert.match(error.message, /a lower learning rate, a longer/);
      assert.doesNotMatch(error.message, /--/);
      return true;
    });
  });

  it('frees what a step makes, and lets timers run', async () => {
    const run = await buildTiny({ steps: 250 }, device);
    const live: number[] = [];
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const progress = { start() {}, stop() {}, update: () => live.push(memory().liveTensors) };
    await new Trainer(run, { device, progress }).run();
    clearInterval(timer);
    assert.equal(live.length, 250);
    // The first steps make the optimiser's state; an epoch's order is made anew in each.
    assert.deepEqual(new Set(live.slice(10)).size, 1, `live tensors: ${[...new Set(live.slice(10))].join(', ')}`);
    assert.ok(ticks > 10, `${ticks} ticks`);
  });

  it('refuses a checkpoint of another architecture or length', async () => {
    const { checkpoint } = await trainTiny('a', { steps: 4 });
    const wider = new Trainer(await buildTiny({ steps: 4, widths: [4, 12] }, device), { device });
    assert.throws(
      () => wider.resume(checkpoint),
      /another architecture[^]*\[8, 4, 3, 3\] in the checkpoint, float32 \[12, 4, 3, 3\] in the run/,
    );
    const longer = new Trainer(await buildTiny({ steps: 5 }, device), { device });
    assert.throws(() => longer.resume(checkpoint), /of a training of 4 steps, this one has 5/);
    assert.equal(longer.step, 0);
    assert.throws(() => longer.resume(), /name its file/);
  });

  it('refuses settings that make no sense', async () => {
    const run = await buildTiny({}, device);
    const cases: [object, RegExp][] = [
      [{ steps: undefined }, /either 'steps' or 'epochs'/],
      [{ epochs: 2 }, /either 'steps' or 'epochs'/],
      [{ steps: 1.5 }, /steps must be a whole number of at least 1, not 1.5/],
      [{ steps: undefined, epochs: 0 }, /the steps of all epochs must be/],
      [{ checkpointEvery: 0 }, /checkpointEvery/],
      [{ checkpointsKept: -1 }, /checkpointsKept/],
      [{ metricsEvery: 0 }, /metricsEvery/],
      [{ clipGradientNorm: 0 }, /clipGradientNorm must be more than 0/],
      [{ state: { ...run.state, data: run.data } }, /'data' needs another name/],
    ];
    for (const [change, message] of cases) assert.throws(() => new Trainer({ ...run, ...change }), message);
    assert.equal(new Trainer({ ...run, steps: undefined, epochs: 2.5 }).stepsTotal, 10);
  });
});
