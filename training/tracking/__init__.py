"""Where a training's metrics and sample episodes go: TensorBoard, a CSV file, Weights & Biases, the run's own curve."""
