import { KontrastError } from '../torch/errors';
import { exitCodes } from './exit-codes';

/** An error that knows its exit code. */
export class CommandFailure extends Error {
  constructor(
    readonly exitCode: number,
    override readonly cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** Runs the part of a command that changes nothing yet: what kontrast refuses there is bad input. */
export async function checking<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KontrastError) throw new CommandFailure(exitCodes.usage, error);
    throw error;
  }
}
