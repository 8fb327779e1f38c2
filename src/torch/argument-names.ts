/** From the camelCase keywords of a call to the argument names of LibTorch's schemas. */
import { camelCase, snakeCase, unpackNames } from './names';
import { irregularArguments } from './names.generated';

let irregular: Map<string, string> | undefined;

/**
 * The name that LibTorch's schemas have for a keyword argument: `memory_format` for `memoryFormat`. A name with an
 * underscore is one of LibTorch's already and stays as it is. Names that do not follow the rule (`UPLO`, `qScale`,
 * `norm_weight_1`) are looked up in a generated list.
 */
export function argumentName(keyword: string): string {
  if (keyword.includes('_')) return keyword;
  irregular ??= new Map(unpackNames(irregularArguments).map((name) => [camelCase(name), name]));
  return irregular.get(keyword) ?? snakeCase(keyword);
}
