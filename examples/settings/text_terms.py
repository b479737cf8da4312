"""Names of loss terms that look at captions."""

from examples.settings.section import Needs

PAIR_TERMS = (
    *("supcon_text", "info_nce", "hard_negative", "triplet_text"),
    *("sdm", "triplet_alignment", "cmpm"),
)
"""Terms that compare images with captions."""

TEXT_TERMS = (*PAIR_TERMS, "id_text", "masked_language")

TRAINS_ON_CAPTIONS = Needs(*(f"loss.{term}" for term in TEXT_TERMS))
