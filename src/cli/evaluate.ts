import * as fs from 'node:fs';
import * as path from 'node:path';
import { dispose } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { evaluateRun, readMetrics, RunFolder } from '../train';
import { findCheckpoint, openTrainedRun, type RunFlags } from './build';
import { exitCodes } from './exit-codes';
import { checking } from './failure';
import { log, print } from './output';
import { checkWritable } from './writable';

/** The flags of `kontrast evaluate`. */
export interface EvaluateFlags extends RunFlags {
  out?: string;
}

/** `kontrast evaluate <run>`; returns the exit code. */
export async function evaluate(target: string, flags: EvaluateFlags): Promise<number> {
  const { recipe, record, folder, evaluation, into } = await checking(async () => {
    const source = new RunFolder(path.dirname(findCheckpoint(target)));
    const into = flags.out === undefined ? source : new RunFolder(path.resolve(flags.out));
    checkWritable(into.path, '--out');
    if (fs.existsSync(source.metrics)) readMetrics(source.metrics);
    const opened = await openTrainedRun(target, flags);
    if (opened.run.evaluation === undefined) {
      throw new InvalidArgumentError(`recipe '${opened.recipe.name}' has no evaluation`);
    }
    return { ...opened, evaluation: opened.run.evaluation, into };
  });
  const { testFeatures } = await evaluateRun({
    recipe,
    record,
    evaluation,
    folder: into,
    metricsPath: folder.metrics,
    print,
    log,
  });
  dispose(testFeatures);
  return exitCodes.ok;
}
