"""A thin reference trainer: one plain loop a stage, made of the library's public parts."""
