"""Complete training methods: the baseline, CLIP-ReID and PromptSG."""
