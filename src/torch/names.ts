/**
 * How LibTorch's names become TypeScript's, in one place: the script that writes the types and the runtime that attaches
 * the methods must agree to the letter.
 */

/**
 * The camelCase form of one of LibTorch's snake_case names, for operators and for arguments.
 *
 * - `log_softmax` becomes `logSoftmax`; `matrix_H` becomes `matrixH`.
 * - A trailing underscore marks an in-place operator and stays: `bitwise_and_` becomes `bitwiseAnd_`.
 * - Digits stay as they are: `max_pool2d` becomes `maxPool2d`, `atleast_1d` becomes `atleast1d`.
 * - A leading underscore marks a private operator and stays: `_fused_sgd_` becomes `_fusedSgd_`.
 */
export function camelCase(name: string): string {
  return name.replace(/(?<=[A-Za-z0-9])_([A-Za-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * The snake_case form of a camelCase name: an underscore before each capital, which becomes small. It undoes
 * {@link camelCase} for names of small letters whose digits follow a letter, which nearly all of LibTorch's are.
 */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Splits one of the packed lists of `names.generated.ts`: names separated by blanks or line ends. */
export function unpackNames(packed: string): string[] {
  return packed.split(/\s+/).filter((name) => name !== '');
}
