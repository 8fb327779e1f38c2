/** What all implementations of the case do. */
export const work = {
  /** Numbers that a sample has. */
  inputSize: 64,
  /** Of each hidden layer, which has a GELU and dropout behind it. */
  hiddenSize: 512,
  hiddenLayers: 3,
  embeddingSize: 64,
  dropout: 0.1,
  temperature: 0.1,
  /** Of weights and inputs; dropout draws from the next. */
  seed: 1,
};

/** Samples of the batch that is cut into more and more chunks, and that times are compared at. */
export const BATCH = 4096;
/** Samples a chunk where the batch grows. */
export const CHUNK = 256;
/** From the whole batch to so many chunks. */
export const MOST_CHUNKS = 64;
