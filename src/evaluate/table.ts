import Table from 'cli-table3';
import type { Evaluation } from './evaluate-encoder';

/**
 * The accuracies as a table for the terminal: one line for each kind of features, in percent.
 *
 * @param colors whether the heading is coloured by terminal codes; default false
 */
export function renderTable(evaluation: Pick<Evaluation, 'rows' | 'settings'>, colors = false): string {
  const table = new Table({
    head: ['features', 'dimension', `kNN (k = ${evaluation.settings.k})`, 'linear probe'],
    colAligns: ['left', 'right', 'right', 'right'],
    style: colors ? { head: ['cyan'] } : { head: [], border: [] },
  });
  for (const { name, dimension, knn, linearProbe } of evaluation.rows) {
    table.push([name, dimension, percent(knn), linearProbe === null ? '–' : percent(linearProbe)]);
  }
  return table.toString();
}

/** All of an evaluation that JSON can hold, for a file or another program. */
export function evaluationJson(evaluation: Evaluation): Omit<Evaluation, 'testFeatures'> {
  const { rows, classNames, settings, similarities, untrainedSimilarities, retrievals } = evaluation;
  return { rows, classNames, settings, similarities, untrainedSimilarities, retrievals };
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
