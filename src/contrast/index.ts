/** Similarities and contrastive objectives. */
export { InfoNCE, type InfoNCEOptions, type InfoNCEParts } from './info-nce';
export { checkEmbeddings, pairedSimilarity, similarityMatrix, type Similarity } from './similarity';
