/** Modules, layers, functions on tensors, and starting values. */
export { AdaptiveAvgPool2d } from './adaptive-avg-pool2d';
export { AvgPool2d } from './avg-pool2d';
export type { Pair } from './checks';
export { Conv2d, type Conv2dOptions } from './conv2d';
export { Dropout } from './dropout';
export { Flatten } from './flatten';
export * as functional from './functional';
export { GELU } from './gelu';
export { Identity } from './identity';
export * as init from './init';
export { Linear, type LinearOptions } from './linear';
export { MaxPool2d } from './max-pool2d';
export { Module, type AnyModule, type ModuleToOptions } from './module';
export { ModuleList } from './module-list';
export { Parameter } from './parameter';
export type { PoolingOptions } from './pooling';
export { ReLU } from './relu';
export { Sequential } from './sequential';
