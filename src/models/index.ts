/** Encoders, projection heads, momentum pairs, and methods built from them. */
export { BasicBlock, type BasicBlockOptions } from './basic-block';
export type { Encoder } from './encoder';
export { EncoderWithHead, MoCo, type BatchNormAnswer, type MoCoOptions, type Norms } from './moco';
export type { MoCoLoss, MoCoObjective, MoCoStep } from './moco-objective';
export { MomentumPair, type MomentumPairOptions } from './momentum-pair';
export { NFBlock, type NFBlockOptions } from './nf-block';
export { NFResidualEncoder, type NFResidualEncoderOptions } from './nf-resnet';
export { ProjectionHead, type ProjectionHeadOptions } from './projection-head';
export { ResidualEncoder, type ResidualEncoderOptions } from './residual-encoder';
export { ResNet18, type ResNet18Options } from './resnet18';
