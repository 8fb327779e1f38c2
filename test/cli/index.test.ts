import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { getThreads, readSafetensors, scope, setThreads } from '../../src/torch';
import { tinyRecipe } from '../train/fixtures/build';
import { kontrast, startKontrast } from './support';

describe('kontrast', function () {
  this.timeout(120_000);
  const threads = getThreads();
  let folder: string;
  let run: string;
  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-cli-'));
    run = path.join(folder, 'run');
  });
  after(() => {
    setThreads(threads);
    fs.rmSync(folder, { recursive: true });
  });

  it('trains, then prints the table and writes the report', async () => {
    const { code, out, err } = await kontrast(
      'train',
      tinyRecipe,
      '--out',
      run,
      '--threads',
      '1',
      '--steps',
      '6',
      '--device',
      'cpu',
    );
    assert.equal(code, 0, err);
    assert.match(out, /trained encoder/);
    assert.match(out, /report: .*report\.html/);
    assert.match(err, /step 6\/6/);
    const evaluation = JSON.parse(fs.readFileSync(path.join(run, 'evaluation.json'), 'utf8')) as {
      rows: { name: string }[];
    };
    assert.deepEqual(
      evaluation.rows.map(({ name }) => name),
      ['raw pixels', 'trained encoder'],
    );
    assert.match(fs.readFileSync(path.join(run, 'report.html'), 'utf8'), /^<!doctype html>/i);
  });

  it('evaluates a run again to the same numbers, by its folder or its checkpoint', async () => {
    const expected = fs.readFileSync(path.join(run, 'evaluation.json'), 'utf8');
    for (const target of [run, path.join(run, 'checkpoint-last.safetensors')]) {
      const out = path.join(folder, 'evaluated');
      const { code, err } = await kontrast('evaluate', target, '--out', out, '--device', 'cpu');
      assert.equal(code, 0, err);
      assert.equal(fs.readFileSync(path.join(out, 'evaluation.json'), 'utf8'), expected);
    }
    assert.equal(fs.readFileSync(path.join(run, 'evaluation.json'), 'utf8'), expected);
  });

  it("writes the embeddings of the recipe's sets", async () => {
    const output = path.join(folder, 'embeddings.safetensors');
    assert.equal((await kontrast('embed', run, '--output', output, '--device', 'cpu')).code, 0);
    scope(() => {
      const { tensors, metadata } = readSafetensors(output);
      const shapes = Object.entries(tensors).map(([name, { dtype, shape }]) => `${name} ${dtype} ${shape.join('x')}`);
      assert.deepEqual(shapes.sort(), [
        'test.embeddings float32 20x8',
        'test.labels int64 20',
        'train.embeddings float32 70x8',
        'train.labels int64 70',
      ]);
      assert.deepEqual(
        { ...metadata },
        { recipe: 'tiny', checkpoint: 'checkpoint-last.safetensors', classNames: '["a","b","c","d"]' },
      );
    });
    const again = await kontrast('embed', run, '--output', output);
    assert.equal(again.code, 2);
    assert.match(again.err, /is there already: replace it with --overwrite/);
    const nowhere = await kontrast('embed', run, '--output', path.join(folder, 'none', 'x.safetensors'));
    assert.equal(nowhere.code, 2);
    assert.match(nowhere.err, /no folder/);
  });

  it('finds places that it cannot write before any work', async () => {
    const place = path.join(tinyRecipe, 'results');
    const evaluated = await kontrast('evaluate', run, '--out', place);
    assert.equal(evaluated.code, 2);
    assert.match(evaluated.err, /^error: cannot write into '.*results' \(.* is not a folder\): .* --out\n$/);
    const embedded = await kontrast('embed', run, '--output', folder);
    assert.equal(embedded.code, 2);
    assert.match(embedded.err, /^error: '.*' is a folder: name a file with --output\n$/);
    if (process.platform !== 'linux') return;
    // Nobody can make a file there.
    const refused = await kontrast('embed', run, '--output', '/proc/embeddings.safetensors');
    assert.equal(refused.code, 2);
    assert.match(refused.err, /^error: cannot write into '\/proc' \(.*\): .* --output\n$/);
  });

  it('refuses a checkpoint that is not of the run in its folder, and a damaged metrics file', async () => {
    const mixed = path.join(folder, 'mixed');
    fs.cpSync(run, mixed, { recursive: true });
    const file = path.join(mixed, 'run.json');
    const record = JSON.parse(fs.readFileSync(file, 'utf8')) as { options: { steps: number } };
    fs.writeFileSync(file, JSON.stringify({ ...record, options: { ...record.options, steps: 7 } }));
    for (const words of [
      ['evaluate', mixed],
      ['evaluate', path.join(mixed, 'checkpoint-last.safetensors'), '--out', path.join(folder, 'x')],
      ['embed', mixed, '--output', path.join(folder, 'x.safetensors')],
    ]) {
      const { code, err } = await kontrast(...words);
      assert.equal(code, 2);
      assert.match(
        err,
        /checkpoint '.*last\.safetensors' is not of the run that '.*run\.json' describes \(--steps: 6 in .*, 7 there\)/,
      );
    }
    fs.writeFileSync(file, JSON.stringify(record));
    fs.appendFileSync(path.join(mixed, 'metrics.jsonl'), 'nonsense\n');
    const damaged = await kontrast('evaluate', mixed);
    assert.equal(damaged.code, 2);
    assert.match(damaged.err, /is not a metrics entry: .*delete/);
    assert.doesNotMatch(damaged.err, /evaluating/);
  });

  it('names runs and checkpoints that are not there or damaged', async () => {
    const missing = await kontrast('evaluate', path.join(folder, 'none'));
    assert.equal(missing.code, 2);
    assert.match(missing.err, /there is no run or checkpoint '.*none': name a run/);
    const empty = fs.mkdtempSync(path.join(folder, 'empty-'));
    assert.match((await kontrast('evaluate', empty)).err, /holds no checkpoint/);
    const cut = path.join(folder, 'cut.safetensors');
    fs.copyFileSync(path.join(run, 'checkpoint-last.safetensors'), cut);
    fs.truncateSync(cut, 999);
    const damaged = await kontrast('evaluate', cut);
    assert.equal(damaged.code, 2);
    assert.match(damaged.err, /cut\.safetensors' is not a sound safetensors file: .*cut off/);
  });

  it('asks for the recipe when its file has moved', async () => {
    const moved = path.join(folder, 'moved.ts');
    fs.copyFileSync(tinyRecipe, moved);
    const other = path.join(folder, 'other');
    assert.equal(
      (await kontrast('train', moved, '--out', other, '--steps', '3', '--no-evaluate', '--threads', '1')).code,
      0,
    );
    fs.rmSync(moved);
    const gone = await kontrast('evaluate', other);
    assert.equal(gone.code, 2);
    assert.match(gone.err, /recipe '.*moved\.ts' is not there any more: .*--recipe/);
    const without = await kontrast('evaluate', other, '--recipe', tinyRecipe);
    assert.equal(without.code, 2);
    assert.match(without.err, /recipe 'tiny' has no evaluation/);
  });

  it('prints versions and devices, as JSON too', async () => {
    const { code, out, err } = await kontrast('info');
    assert.equal(code, 0, err);
    assert.match(out, /^kontrast +\d+\.\d+\.\d+\n/);
    assert.match(out, /\nLibTorch +\d+\.\d+/);
    assert.match(out, /\nCPU capability +\S+/);
    const json = JSON.parse((await kontrast('info', '--json')).out) as { devices: string[]; threads: number };
    assert.equal(json.devices[0], 'cpu');
    assert.equal(typeof json.threads, 'number');
  });

  it('has help for every command, a version, and 2 for what it does not know', async () => {
    for (const command of ['train', 'evaluate', 'embed', 'info', 'doctor', 'setup']) {
      const { code, out } = await kontrast(command, '--help');
      assert.equal(code, 0, command);
      assert.match(out, new RegExp(`Usage: kontrast ${command}`));
    }
    const help = await kontrast('--help');
    assert.equal(help.code, 0);
    assert.match(help.out, /Exit codes: 0 .* 1 .* 2 .* 130/);
    const version = await kontrast('--version');
    assert.equal(version.code, 0);
    assert.match(version.out, /^\d+\.\d+\.\d+\n$/);
    const unknown = await kontrast('trian');
    assert.equal(unknown.code, 2);
    assert.match(unknown.err, /Did you mean train\?/);
    assert.equal((await kontrast('embed', run)).code, 2);
    assert.equal((await kontrast()).code, 2);
  });

  it("has the help of 'train' where there is no LibTorch yet", async () => {
    const { LIBTORCH } = process.env;
    process.env.LIBTORCH = path.join(folder, 'none');
    try {
      const { code, out, err } = await startKontrast('train', '--help').outcome;
      assert.equal(code, 0, err);
      assert.match(out, /Usage: kontrast train/);
    } finally {
      if (LIBTORCH === undefined) delete process.env.LIBTORCH;
      else process.env.LIBTORCH = LIBTORCH;
    }
  });

  it('prints a stack only when asked', async () => {
    process.env.KONTRAST_DEBUG = '1';
    try {
      assert.match((await kontrast('evaluate', 'none')).err, /\n {4}at /);
    } finally {
      delete process.env.KONTRAST_DEBUG;
    }
    assert.doesNotMatch((await kontrast('evaluate', 'none')).err, /\n {4}at /);
  });
});
