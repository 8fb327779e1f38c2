import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { getThreads, setThreads } from '../../src/torch';
import { readMetrics } from '../../src/train/metrics';
import { isLockFile } from '../../src/train/run-lock';
import { checkpointContent, tinyRecipe } from '../train/fixtures/build';
import { kontrast, startKontrast, untilStep } from './support';

describe('kontrast train', function () {
  this.timeout(180_000);
  const threads = getThreads();
  after(() => setThreads(threads));

  let parent: string;
  let folder: string;
  beforeEach(() => {
    parent = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-cli-'));
    folder = path.join(parent, 'run');
  });
  afterEach(() => fs.rmSync(parent, { recursive: true }));

  /** The words that train the tiny recipe on the CPU, exactly reproducible and without an evaluation. */
  const tiny = (out: string, ...more: string[]): string[] => [
    'train',
    tinyRecipe,
    '--out',
    out,
    '--threads',
    '1',
    '--device',
    'cpu',
    '--no-evaluate',
    ...more,
  ];
  const checkpoint = (out: string): string => path.join(out, 'checkpoint-last.safetensors');
  const listing = (): unknown =>
    fs.readdirSync(folder).map((name) => [name, fs.readFileSync(path.join(folder, name), 'hex')]);

  async function wholeRun(): Promise<ReturnType<typeof checkpointContent>> {
    const whole = path.join(parent, 'whole');
    assert.equal((await kontrast(...tiny(whole))).code, 0);
    return checkpointContent(checkpoint(whole));
  }

  it('ends bit for bit as an uninterrupted run after SIGKILL and --resume', async () => {
    const { child, outcome } = startKontrast(...tiny(folder, '--pause', '60'));
    await untilStep(folder, 8, outcome);
    child.kill('SIGKILL');
    assert.equal((await outcome).signal, 'SIGKILL');
    const { step } = checkpointContent(checkpoint(folder));
    assert.ok(
      typeof step === 'number' && step >= 6 && step < 20,
      `killed after the checkpoint of step ${String(step)}`,
    );

    const resumed = await startKontrast('train', tinyRecipe, '--out', folder, '--resume').outcome;
    assert.equal(resumed.code, 0, resumed.err);
    assert.match(resumed.err, new RegExp(`going on after step ${step}\n`));
    const content = checkpointContent(checkpoint(folder));
    assert.equal(content.step, 20);
    assert.deepEqual(content, await wholeRun());
    assert.deepEqual(
      readMetrics(path.join(folder, 'metrics.jsonl')).map((entry) => entry.step),
      [2, 4, 6, 8, 10, 12, 14, 16, 18, 20],
    );
  });

  it('finishes the step, saves and says how to go on at Ctrl-C', async () => {
    const { child, outcome } = startKontrast(...tiny(folder, '--pause', '60'));
    await untilStep(folder, 4, outcome);
    child.kill('SIGINT');
    const { code, err } = await outcome;
    assert.equal(code, 130, err);
    assert.match(err, /stopped after step \d+ of 20; the state is saved/);
    // The test's process stands in the package's own folder, where npx finds it.
    const words = /\n {2}npx kontrast (train \S+ --out \S+ --resume)\n/.exec(err)?.[1];
    assert.ok(words, err);
    const resumed = await kontrast(...words.split(' '));
    assert.equal(resumed.code, 0, resumed.err);
    assert.deepEqual(checkpointContent(checkpoint(folder)), await wholeRun());
  });

  it('ends at once at the second Ctrl-C', async () => {
    const { child, outcome } = startKontrast(
      ...tiny(folder, '--pause', '60', '--checkpoint-every', '500', '--slow-save', '60000'),
    );
    await untilStep(folder, 2, outcome);
    const noticed = new Promise<void>((resolve) => {
      child.stderr!.on('data', (text) => String(text).includes('once more to stop at once') && resolve());
    });
    child.kill('SIGINT');
    await noticed;
    child.kill('SIGINT');
    assert.equal((await outcome).signal, 'SIGINT');
    assert.ok(!fs.existsSync(checkpoint(folder)));
  });

  it('saves at SIGTERM too', async () => {
    const running = kontrast(...tiny(folder, '--pause', '20', '--steps', '500'));
    await untilStep(folder, 2, running);
    process.emit('SIGTERM', 'SIGTERM');
    const { code, err } = await running;
    assert.equal(code, 143, err);
    assert.match(err, /stopped after step \d+ of 500; the state is saved/);
    assert.ok(fs.existsSync(checkpoint(folder)));
    assert.equal(process.listenerCount('SIGTERM'), 0);
  });

  it('starts from the beginning when a run was killed before its first checkpoint', async () => {
    assert.equal((await kontrast(...tiny(folder))).code, 0);
    const expected = checkpointContent(checkpoint(folder));
    fs.rmSync(checkpoint(folder));
    const { code, err } = await kontrast(...tiny(folder, '--resume'));
    assert.equal(code, 0, err);
    assert.match(err, /no checkpoint yet, so it starts from the beginning/);
    assert.deepEqual(checkpointContent(checkpoint(folder)), expected);
  });

  it('never writes over a run unless told to', async () => {
    assert.equal((await kontrast(...tiny(folder, '--steps', '4'))).code, 0);
    const before = listing();
    const refused = await kontrast(...tiny(folder));
    assert.equal(refused.code, 2);
    assert.match(refused.err, /^error: '.*run' holds a run already: .*--resume.*--overwrite/);
    const both = await kontrast(...tiny(folder, '--resume', '--overwrite'));
    assert.equal(both.code, 2);
    assert.match(both.err, /give one of them/);
    assert.deepEqual(listing(), before);
    assert.equal((await kontrast(...tiny(folder, '--steps', '5', '--overwrite'))).code, 0);
    assert.equal(checkpointContent(checkpoint(folder)).step, 5);
  });

  it('refuses a batch larger than the queue before an older run is touched', async () => {
    assert.equal((await kontrast(...tiny(folder, '--steps', '4'))).code, 0);
    const before = listing();
    const { code, err } = await kontrast(...tiny(folder, '--overwrite', '--queue-size', '9'));
    assert.equal(code, 2);
    assert.match(err, /larger than the queue of 9; use a larger queue or a smaller batch/);
    assert.deepEqual(listing(), before);
  });

  it('resumes only the same run', async () => {
    assert.equal((await kontrast(...tiny(folder, '--steps', '4'))).code, 0);
    const before = listing();
    const cases: [string[], RegExp][] = [
      [['--steps', '5'], /started with --steps 4, not 5: leave --steps out/],
      [['--seed', '3'], /started with --seed 0, not 3/],
      [['--widths', '4,12'], /started with --widths 4,8, not 4,12/],
    ];
    for (const [words, message] of cases) {
      const { code, err } = await kontrast('train', tinyRecipe, '--out', folder, '--resume', ...words);
      assert.equal(code, 2, err);
      assert.match(err, message);
    }
    const otherRecipe = path.join(parent, 'other.ts');
    fs.writeFileSync(otherRecipe, fs.readFileSync(tinyRecipe, 'utf8').replace("name: 'tiny'", "name: 'other'"));
    const other = await kontrast('train', otherRecipe, '--out', folder, '--resume');
    assert.equal(other.code, 2);
    assert.match(other.err, /the run is of recipe 'tiny', but '.*other\.ts' is recipe 'other'/);
    const none = await kontrast(...tiny(path.join(parent, 'none'), '--resume'));
    assert.equal(none.code, 2);
    assert.match(none.err, /no run to resume/);
    assert.deepEqual(listing(), before);
    // The same goes for a checkpoint that was put into another recipe's folder.
    const foreign = path.join(parent, 'foreign');
    assert.equal((await kontrast('train', otherRecipe, ...tiny(foreign, '--steps', '4').slice(2))).code, 0);
    fs.copyFileSync(checkpoint(folder), checkpoint(foreign));
    const mixed = await kontrast('train', otherRecipe, '--out', foreign, '--resume');
    assert.equal(mixed.code, 2);
    assert.match(
      mixed.err,
      /checkpoint '.*' is not of the run that '.*run\.json' describes \(recipe: tiny .*, other there/,
    );
    // A run that is done has nothing left to do.
    assert.equal((await kontrast(...tiny(folder, '--steps', '4', '--resume'))).code, 0);
  });

  it('refuses a checkpoint that was cut off or is of another architecture, and changes nothing', async () => {
    assert.equal((await kontrast(...tiny(folder, '--steps', '4'))).code, 0);
    const changed = path.join(parent, 'changed.ts');
    const source = fs.readFileSync(tinyRecipe, 'utf8');
    fs.writeFileSync(changed, source.replace('inChannels: 1, widths,', 'inChannels: 1, widths: [4, 12],'));
    const before = listing();
    const other = await kontrast('train', changed, '--out', folder, '--resume');
    assert.equal(other.code, 2);
    assert.match(other.err, /note: the recipe '.*changed\.ts' has changed/);
    assert.match(
      other.err,
      /another architecture[^]*moco\.pair\.\S+: float32 \[8, 4, 3, 3\] in the checkpoint, float32 \[12, 4, 3, 3\] in the run/,
    );
    assert.deepEqual(listing(), before);

    const renamed = path.join(parent, 'renamed.ts');
    fs.writeFileSync(renamed, source.replaceAll('slowSave', 'slow'));
    const fewer = await kontrast('train', renamed, '--out', folder, '--resume');
    assert.equal(fewer.code, 2);
    assert.match(fewer.err, /started with --slow-save, which the recipe '.*renamed\.ts' has no more: bring/);
    assert.deepEqual(listing(), before);

    fs.truncateSync(checkpoint(folder), 5000);
    const cut = await kontrast(...tiny(folder, '--steps', '4', '--resume'));
    assert.equal(cut.code, 2);
    assert.match(cut.err, /^error: '.*checkpoint-last\.safetensors' is not a sound safetensors file: .*cut off/);
    assert.equal(cut.err.trim().split('\n').length, 1, 'one message, no stack');
  });

  it('finds a damaged metrics file before it goes on', async () => {
    assert.equal((await kontrast(...tiny(folder, '--steps', '4'))).code, 0);
    fs.writeFileSync(path.join(folder, 'metrics.jsonl'), 'nonsense\n');
    const before = listing();
    const { code, err } = await kontrast(...tiny(folder, '--steps', '4', '--resume'));
    assert.equal(code, 2);
    assert.match(err, /metrics\.jsonl', line 1, is not a metrics entry: .*delete/);
    assert.deepEqual(listing(), before);
  });

  it('keeps a second process out of the folder until the first is gone', async () => {
    const { child, outcome } = startKontrast(...tiny(folder, '--pause', '60', '--steps', '500'));
    await untilStep(folder, 4, outcome);
    for (const mode of ['--resume', '--overwrite']) {
      const { code, err } = await kontrast(...tiny(folder, mode));
      assert.equal(code, 2, err);
      assert.match(err, new RegExp(`error: process ${child.pid} is training into '.*run': wait .* --out`));
    }
    child.kill('SIGKILL');
    await outcome;
    assert.ok(fs.readdirSync(folder).some(isLockFile), 'it had no time to clean up');
    assert.equal((await kontrast(...tiny(folder, '--steps', '4', '--overwrite'))).code, 0);
    assert.ok(!fs.readdirSync(folder).some(isLockFile));
  });

  it('fails with 1 when the loss becomes NaN, and keeps the checkpoint', async () => {
    const { code, err } = await kontrast(...tiny(folder, '--nan-at', '5'));
    assert.equal(code, 1);
    assert.match(err, /error: the loss is NaN in step 5 of 20, at learning rate .*checkpoint of step 3 is kept/);
    assert.match(err, /a lower learning rate \(--learning-rate\)/);
    assert.equal(checkpointContent(checkpoint(folder)).step, 3);
  });

  it('names what is wrong with options and recipes, before anything is written', async () => {
    const noRecipe = path.join(parent, 'no-recipe.ts');
    fs.writeFileSync(noRecipe, 'export default 3;');
    const broken = path.join(parent, 'broken.ts');
    fs.writeFileSync(broken, 'export default (;');
    const recipe = (name: string, build: string): string => {
      const file = path.join(parent, `${name}.ts`);
      const parts = `name: '${name}', description: '', options: {}, build() { ${build} }`;
      fs.writeFileSync(
        file,
        `import { defineRecipe } from 'kontrast/train';\nexport default defineRecipe({ ${parts} } as never);`,
      );
      return file;
    };
    const throws = recipe('throws', "throw new TypeError('mine');");
    const empty = recipe('empty', 'return {};');
    const nowhere = path.join(parent, 'link');
    fs.symlinkSync(path.join(parent, 'not-there'), nowhere);
    const cases: [string[], RegExp][] = [
      [
        tiny(folder, '--learning-rat', '1'),
        /unknown recipe option --learning-rat; did you mean --learning-rate\? .*--steps/,
      ],
      [tiny(folder, '--steps', 'many'), /--steps needs a whole number of at least 1, not many/],
      [tiny(folder, '--precision', 'int8'), /--precision needs one of float32, bfloat16, not int8/],
      [tiny(folder, '--seed', '-1'), /--seed.*whole number/],
      [tiny(folder, '--device', 'tpu'), /--device.*auto, cpu, cuda/],
      [tiny(folder, 'extra'), /unexpected argument 'extra'/],
      [['train'], /name a recipe/],
      [['train', '--steps', '3', tinyRecipe], /the recipe comes before its options/],
      [['train', path.join(parent, 'none.ts'), '--out', folder], /cannot read the recipe/],
      [['train', noRecipe, '--out', folder], /is no recipe: its default export must be what defineRecipe/],
      [['train', broken, '--out', folder], /cannot be loaded/],
      [['train', throws, '--out', folder], /recipe 'throws' failed in its build: mine; mend it there/],
      [['train', empty, '--out', folder], /recipe 'empty': build must return data, .*; 'data' is not an object/],
      [
        ['train', throws, '--out', path.join(nowhere, 'run')],
        /cannot write into '.*run' \('.*link' is a link to .*\): .*--out/,
      ],
      [['train'], /'npx kontrast train <recipe\.ts>'/],
    ];
    for (const [words, message] of cases) {
      const { code, err } = await kontrast(...words);
      assert.equal(code, 2, `${words.join(' ')}: ${err}`);
      assert.match(err, message);
    }
    assert.ok(!fs.existsSync(folder));
    // What kontrast did not foresee comes with its place when it is asked for.
    process.env.KONTRAST_DEBUG = '1';
    try {
      assert.match((await kontrast('train', throws, '--out', folder)).err, /throws\.ts:2/);
    } finally {
      delete process.env.KONTRAST_DEBUG;
    }
  });

  it("lists the recipe's options with their defaults in its help", async () => {
    const { code, out } = await kontrast('train', tinyRecipe, '--help');
    assert.equal(code, 0);
    assert.match(out, /--resume [^]*other options than it was started with\s+are refused/);
    assert.match(out, /Recipe 'tiny': A few steps of MoCo/);
    assert.match(out, /--steps <number> +optimiser steps \(whole number of at least 1; default: 20\)/);
    assert.match(out, /--precision <choice> +what to compute in \(one of float32, bfloat16; default: float32\)/);
    assert.match(out, /--no-evaluate +\(default: on\)/);
    const plain = await kontrast('train', '--help');
    assert.equal(plain.code, 0);
    assert.match(plain.out, /Usage: kontrast train <recipe\.ts>/);
  });
});
