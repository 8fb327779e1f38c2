/** The operators that cannot be called from JavaScript: what they take comes from a part of LibTorch that is not bound. */

const rules: readonly (readonly [part: string, reason: string])[] = [
  ['(...)', 'takes any number of values of any type; made for the runtime of compiled models'],
  ['torch.classes.c10d.', 'takes a process group, work or reduction; these come with the distributed part'],
  ['SymmetricMemory', 'takes symmetric memory, which comes with the distributed part'],
  ['sparse.LinearPackedParamsBase', 'takes sparse packed weights, which this LibTorch makes on no machine we have'],
];

/** Why an operator cannot be called; undefined where it can. */
export function reasonForNotCalling(schema: string): string | undefined {
  const takes = schema.slice(0, schema.lastIndexOf(' -> '));
  return rules.find(([part]) => takes.includes(part))?.[1];
}
