"""The stages: each file trains what the recipes of its name say, from data to best weights.

A file has one function ``train(recipe, session)``. It returns the trained method, which is then
evaluated, or ``None`` if it trains nothing. ``fit_method`` trains any module that has

- an attribute ``towers``, the :class:`~clipreid_kit.clip.ClipTowers`, whose parameters have
  learning rates of their own;
- a ``forward`` that takes ``images`` and ``labels`` (and ``step``, ``tokens``, ``cameras`` or
  ``views``, where the recipe asks for them) and returns an object with ``loss``, ``terms`` (values
  by name) and ``embedding``; without labels, the ``embedding`` alone;
- for ``evaluate.metric: loss``, an attribute ``open_set_terms`` and an argument ``terms`` of
  ``forward``: the terms that identities outside the training set have.
"""
