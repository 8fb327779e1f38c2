import * as path from 'node:path';
import { dispose } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { evaluateRun, RunFolder } from '../train';
import { openTrainedRun, type RunFlags } from './build';
import { exitCodes } from './exit-codes';
import { checking } from './failure';
import { log, print } from './output';

/** The flags of `kontrast evaluate`. */
export interface EvaluateFlags extends RunFlags {
  out?: string;
}

/** `kontrast evaluate <run>`; returns the exit code. */
export async function evaluate(target: string, flags: EvaluateFlags): Promise<number> {
  const { recipe, record, folder, evaluation } = await checking(async () => {
    const opened = await openTrainedRun(target, flags);
    if (opened.run.evaluation === undefined) {
      throw new InvalidArgumentError(`recipe '${opened.recipe.name}' has no evaluation`);
    }
    return { ...opened, evaluation: opened.run.evaluation };
  });
  const { testFeatures } = await evaluateRun({
    recipe,
    record,
    evaluation,
    folder: flags.out === undefined ? folder : new RunFolder(path.resolve(flags.out)),
    metricsPath: folder.metrics,
    print,
    log,
  });
  dispose(testFeatures);
  return exitCodes.ok;
}
