"""Choose the parameters that train and their learning rates: freezing, layer-wise rates, LoRA."""
