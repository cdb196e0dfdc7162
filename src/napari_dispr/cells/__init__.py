"""From images to the model grid: crops, dataset folders, stacks, splits, features. No torch, no Qt."""
