/** The operators that cannot be called from JavaScript: what they take comes from a part of LibTorch that is not bound. */

const rules: readonly (readonly [part: string, reason: string])[] = [
  ['(...)', 'takes any number of values of any type; made for the runtime of compiled models'],
  ['torch.classes.c10d.', 'takes a process group, work or reduction; these come with the distributed part'],
  ['SymmetricMemory', 'takes symmetric memory, which comes with the distributed part'],
  [
    'rnn.CellParamsBase',
    'takes a list of packed cells, which only a list of `quantized::make_quantized_cell_params` makes',
  ],
  ['sparse.LinearPackedParamsBase', 'takes sparse packed weights, which this LibTorch makes on no machine we have'],
  ['profiler._RecordFunction', "takes a record of the profiler's"],
  ['Stream s', "takes a device's stream"],
];

/** Why an operator cannot be called; undefined where it can. */
export function reasonForNotCalling(schema: string): string | undefined {
  const takes = schema.slice(0, schema.lastIndexOf(' -> '));
  return rules.find(([part]) => takes.includes(part))?.[1];
}
