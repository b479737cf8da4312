"""Choose the parameters that train, and at which learning rate: freezing, layer-wise rates, LoRA."""
