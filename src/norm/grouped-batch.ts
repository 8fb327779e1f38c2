/** Batch normalisation of a batch in groups of samples, each by its own statistics: what split and ghost batch norm share. */

/**
 * Which samples make a group: `'neighbours'` takes consecutive ones; `'interleaved'` puts samples i, i + s, i + 2s, … into group i
 * of s.
 */
export type Grouping = 'neighbours' | 'interleaved';
