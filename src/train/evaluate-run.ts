import * as fs from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { dispose, libtorchBuild, noGrad, scope } from '../torch';
import { writeFileAtomic } from '../torch/files';
import type { ImageSet } from '../data';
import { evaluateEncoder, evaluationJson, renderTable, type Evaluation, type SimilarityHistograms } from '../evaluate';
import {
  projectTwoDimensional,
  writeReport,
  type ReportData,
  type ReportHistograms,
  type ReportImage,
} from '../report';
import { readMetrics, type MetricsEntry } from './metrics';
import type { Recipe, RecipeEvaluation } from './recipe';
import type { RunFolder, RunRecord } from './run-folder';

/** Points of the report's projection: enough to see the classes, few enough for seconds. */
const PROJECTED = 2000;

/** What {@link evaluateRun} needs. */
export interface EvaluateRunOptions {
  /** The recipe, for its name and description. */
  recipe: Pick<Recipe, 'name' | 'description'>;
  /** What the run was, for the report. */
  record: RunRecord;
  /** Encoders and data; the encoder holds the weights to judge. */
  evaluation: RecipeEvaluation;
  /** Where `evaluation.json` and `report.html` go. */
  folder: RunFolder;
  /** Where the run's metrics are. Default: in `folder`. */
  metricsPath?: string;
  /** Takes the table and the report's place. */
  print(text: string): void;
  /** Takes what is done next. */
  log(line: string): void;
}

/**
 * Judges a run's weights: prints the table of accuracies, and writes `evaluation.json` and `report.html`.
 *
 * @returns What was found; the caller disposes of its tensor.
 */
export async function evaluateRun(options: EvaluateRunOptions): Promise<Evaluation> {
  const { folder, evaluation: settings, print, log } = options;
  const evaluation = await evaluateEncoder({ ...settings, onStage: (stage) => log(`evaluating: ${stage}`) });
  try {
    print(renderTable(evaluation, process.stdout.isTTY));
    fs.mkdirSync(folder.path, { recursive: true });
    writeFileAtomic(folder.evaluation, `${JSON.stringify(evaluationJson(evaluation), null, 2)}\n`);
    log('writing the report');
    await setImmediate();
    await writeReport(folder.report, await reportData(options, evaluation));
    print(`report: ${folder.report}`);
    return evaluation;
  } catch (error) {
    dispose(evaluation.testFeatures);
    throw error;
  }
}

async function reportData(options: EvaluateRunOptions, evaluation: Evaluation): Promise<ReportData> {
  const { recipe, record, folder, evaluation: settings } = options;
  const metricsPath = options.metricsPath ?? folder.metrics;
  const entries = fs.existsSync(metricsPath) ? readMetrics(metricsPath) : [];
  const { similarities, untrainedSimilarities } = evaluation;
  return {
    title: recipe.name,
    subtitle: recipe.description,
    facts: {
      ...summarize(entries),
      'Training images': evaluation.settings.trainImages,
      'Test images': evaluation.settings.testImages,
      Options: Object.fromEntries(
        Object.entries(record.options).map(([name, value]) => [
          name,
          typeof value === 'object' ? value.join(', ') : value,
        ]),
      ),
      Run: { Seed: record.seed, Device: record.device, Threads: record.threads, Started: record.started },
      Versions: { kontrast: record.kontrast, LibTorch: libtorchBuild().version, 'Node.js': record.node },
    },
    table: evaluation.rows,
    curves: curvesOf(entries),
    histograms: { before: histogramsOf(untrainedSimilarities), after: histogramsOf(similarities) },
    projection: { after: await projectionOf(evaluation, settings.test, record.seed) },
    neighbours: evaluation.retrievals.map(({ index, label, neighbors }) => ({
      query: imageOf(settings.test, index),
      label,
      neighbours: neighbors.map((neighbor) => ({ ...neighbor, image: imageOf(settings.train, neighbor.index) })),
    })),
    classNames: evaluation.classNames,
  };
}

function histogramsOf(similarities: SimilarityHistograms | null): ReportHistograms | undefined {
  if (similarities === null) return undefined;
  const { edges, positives, negatives } = similarities;
  return { positive: { edges, counts: positives }, negative: { edges, counts: negatives } };
}

function summarize(entries: readonly MetricsEntry[]): Record<string, number> {
  const last = entries.at(-1);
  if (last === undefined) return {};
  return { Steps: last.step, Epochs: last.epoch, 'Training time, s': last.seconds, 'Last loss': last.loss };
}

/** `queueAge` as `Queue age`. */
function inWords(name: string): string {
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** The entries, one array a series; what the report has no chart of its own for comes as other series. */
function curvesOf(entries: readonly MetricsEntry[]): ReportData['curves'] {
  const series = (name: string): number[] => entries.map((entry) => entry[name] ?? NaN);
  const named = ['step', 'loss', 'learningRate', 'imagesPerSecond', 'positiveSimilarity', 'negativeSimilarity'];
  const hidden = ['epoch', 'seconds', 'residentBytes'];
  const names = new Set(entries.flatMap((entry) => Object.keys(entry)));
  const other = [...names].filter((name) => !named.includes(name) && !hidden.includes(name));
  return {
    step: series('step'),
    ...Object.fromEntries(named.filter((name) => names.has(name)).map((name) => [name, series(name)])),
    other: [
      ...other.map((name) => ({ name: inWords(name), values: series(name) })),
      { name: 'Resident memory', unit: 'MB', values: series('residentBytes').map((bytes) => bytes / 1e6) },
    ],
  };
}

async function projectionOf(
  { testFeatures }: Evaluation,
  test: ImageSet,
  seed: number,
): Promise<{
  points: [number, number][];
  labels: number[];
}> {
  const count = Math.min(PROJECTED, testFeatures.shape[0]!);
  const dimension = testFeatures.shape[1]!;
  const { features, labels } = noGrad(() =>
    scope(() => ({
      features: testFeatures.narrow(0, 0, count).dataSync() as Float32Array,
      labels: Array.from(test.labels.narrow(0, 0, count).dataSync() as BigInt64Array, Number),
    })),
  );
  return { points: await projectTwoDimensional(features, count, dimension, { seed }), labels };
}

/** An image of a set as the report takes it: the channels of a pixel beside each other. */
function imageOf(set: ImageSet, row: number): ReportImage {
  return scope(() => {
    const image = set.images.select(0, row);
    const [channels, height, width] = image.shape as [number, number, number];
    const shown = channels === 3 || channels === 4 ? image : image.narrow(0, 0, 1);
    const pixels = shown.permute([1, 2, 0]).contiguous().dataSync() as Uint8Array;
    return { width, height, channels: shown.shape[0] as 1 | 3 | 4, pixels };
  });
}
