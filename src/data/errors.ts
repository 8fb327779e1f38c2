import { KontrastError } from '../torch/errors';

/** What went wrong with a data set's files. */
export type DataErrorCode =
  /** The npm package that holds the data set is not installed. */
  | 'DATA_PACKAGE_MISSING'
  /** The package is there, but what it holds is not the data set that is expected. */
  | 'DATA_PACKAGE_DAMAGED'
  /** There is no cache file yet. */
  | 'DATA_CACHE_MISSING'
  /** The cache file is truncated, of another kind or version, or its hash is wrong. */
  | 'DATA_CACHE_DAMAGED'
  /** The cache file or its folder cannot be read or written. */
  | 'DATA_CACHE_UNUSABLE';

/** A data set's package or cache is missing or damaged; `code` says which, the message names the file and the fix. */
export class DataError extends KontrastError {
  declare readonly code: DataErrorCode;

  constructor(message: string, code: DataErrorCode, cause?: unknown) {
    super(message, { code, cause });
  }
}
