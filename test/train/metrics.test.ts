import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { MetricsFile, readMetrics, type MetricsEntry } from '../../src/train/metrics';

function entry(step: number): MetricsEntry {
  return {
    step,
    epoch: step / 10,
    loss: 1 / step,
    learningRate: 0.1,
    imagesPerSecond: 5,
    residentBytes: 7,
    seconds: step,
  };
}

describe('metrics file', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-metrics-'));
    file = path.join(folder, 'metrics.jsonl');
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  function write(entries: MetricsEntry[], resumeAt?: number): void {
    const metrics = new MetricsFile(file, { resumeAt });
    entries.forEach((each) => metrics.append(each));
    metrics.sync();
    metrics.close();
  }

  it('holds one JSON object a line', () => {
    write([entry(1), { ...entry(2), loss: NaN }]);
    const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n');
    assert.deepEqual(JSON.parse(lines[0]!), entry(1));
    assert.deepEqual(readMetrics(file), [entry(1), { ...entry(2), loss: NaN }]);
  });

  it('drops the steps after the one resumed at, and half a line', () => {
    write([entry(1), entry(2), entry(3)]);
    fs.appendFileSync(file, '{"step":4,"ep');
    write([entry(3)], 2);
    assert.deepEqual(readMetrics(file), [entry(1), entry(2), entry(3)]);
  });

  it('starts empty without a step to resume at', () => {
    write([entry(1)]);
    write([]);
    assert.deepEqual(readMetrics(file), []);
  });

  it('starts empty when the file to resume is gone', () => {
    write([entry(6)], 5);
    assert.deepEqual(readMetrics(file), [entry(6)]);
  });

  it('names a damaged line', () => {
    fs.writeFileSync(file, `${JSON.stringify(entry(1))}\nnonsense\n`);
    assert.throws(() => readMetrics(file), /metrics.jsonl', line 2, is not a metrics entry: .*; delete that line/);
    fs.writeFileSync(file, `{"loss":1}\n`);
    assert.throws(() => readMetrics(file), /line 1, .* it has no step/);
  });
});
