"""Evaluation of a model on image records: encode the images, then score the embeddings."""

from clipreid_kit.data.evaluation.encode_images import encode_images
from clipreid_kit.data.evaluation.evaluate_records import evaluate_records
from clipreid_kit.data.evaluation.evaluation_ids import evaluation_ids

__all__ = ["encode_images", "evaluate_records", "evaluation_ids"]
