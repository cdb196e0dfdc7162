"""From pictures to the model grid: crops, dataset folders, augmentation, simulated cells; no torch, no Qt."""
