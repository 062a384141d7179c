"""Scores of another implementation: COCO's, by faster-coco-eval."""

import numpy as np
import pytest


def coco_result(predictions, confidence, references):
    """AP50:95, AP50 and the 101 precisions at IoU 0.5 of faster-coco-eval.

    The shapes are drawn as pixel masks of 64 x 64: boxes with whole-numbered corners are exact.
    """
    coco_eval = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval not installed")
    mask_api = pytest.importorskip("faster_coco_eval.core.mask")

    def encode(polygon):
        mask = np.zeros((64, 64), np.uint8, order="F")
        x_min, y_min, x_max, y_max = map(int, polygon.bounds)
        mask[y_min:y_max, x_min:x_max] = 1
        run_lengths = mask_api.encode(mask)
        counts = run_lengths["counts"]
        text = counts.decode() if isinstance(counts, bytes) else counts
        return {"size": run_lengths["size"], "counts": text}

    truth = coco_eval.COCO(
        {
            "images": [{"id": 1, "width": 64, "height": 64}],
            "categories": [{"id": 1, "name": "building"}],
            "annotations": [
                {
                    "id": index + 1,
                    "image_id": 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": polygon.area,
                    "bbox": [0, 0, 1, 1],
                    "segmentation": encode(polygon),
                }
                for index, polygon in enumerate(references)
            ],
        }
    )
    found = truth.loadRes(
        [
            {
                "image_id": 1,
                "category_id": 1,
                "score": float(score),
                "segmentation": encode(polygon),
            }
            for polygon, score in zip(predictions, confidence, strict=True)
        ]
    )
    evaluation = coco_eval.COCOeval_faster(truth, found, "segm", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][0, :, 0, 0, -1]
    return evaluation.stats[0], evaluation.stats[1], precision
