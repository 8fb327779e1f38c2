/** Clusters of embeddings: k-means, balanced and hierarchical. */
export { balancedKMeans, type BalancedClusters, type BalancedKMeansOptions } from './balanced-k-means';
export { hierarchicalKMeans, type ClusterLevel, type HierarchicalKMeansOptions } from './hierarchical-k-means';
export { KMeans, kMeans, type KMeansFit, type KMeansOptions } from './k-means';
