"""The networks of a training, and the training-free compressors that they are measured against."""
