"""The machine learning backend: training, prediction and ranking behind Label Studio."""
