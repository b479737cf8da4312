"""Engines behind the losses: value and gradient together, in bounded memory.

Every loss has a definition in its own module, ``supcon_definition`` for example: the formula of the
paper in plain autograd. Read that first. The engine computes the same value and the same gradient
without holding what autograd would, and a test compares the two.

Shape suffixes of names: N anchors or pairs, M contrast rows, D width, C identities, and B rows of a
block. So ``logits_BM`` holds the logits of a block of anchors to all contrast rows.
"""
