"""The teacher of the detector: YuNet (Apache-2.0), run at several scales and averaged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Floats = npt.NDArray[np.float32]
ROW = 15  # x1, y1, x2, y2, five (x, y), score


class YuNet:
    """Teacher detector on RGB images of any size."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]

    def detect(self, rgb: npt.NDArray[np.uint8], threshold: float = 0.3) -> Floats:
        """Return faces found at the image's own scale, float32 [n,15], after NMS."""
        height, width = rgb.shape[:2]
        padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
        padded[:height, :width] = rgb[..., ::-1]
        feed = {self._input: padded.transpose(2, 0, 1)[None]}
        outputs = dict(zip(self._names, self._session.run(None, feed), strict=True))
        rows = []
        for stride in (8, 16, 32):
            columns = padded.shape[1] // stride
            score = np.sqrt(
                np.clip(outputs[f"cls_{stride}"][0, :, 0], 0, 1)
                * np.clip(outputs[f"obj_{stride}"][0, :, 0], 0, 1)
            )
            keep = np.flatnonzero(score > threshold)
            grid = np.stack([keep % columns, keep // columns], 1).astype(np.float32)
            box = outputs[f"bbox_{stride}"][0][keep]
            centre = (box[:, :2] + grid) * stride
            size = np.exp(box[:, 2:]) * stride
            points = outputs[f"kps_{stride}"][0][keep].reshape(-1, 5, 2)
            points = (points + grid[:, None]) * stride
            rows.append(
                np.concatenate(
                    [
                        centre - size / 2,
                        centre + size / 2,
                        points.reshape(-1, 10),
                        score[keep, None],
                    ],
                    1,
                )
            )
        return non_maximum_suppression(np.concatenate(rows).astype(np.float32), 0.45)

    def detect_at_scales(
        self, rgb: npt.NDArray[np.uint8], longest: tuple[int, ...] = (160, 320, 640)
    ) -> Floats:
        """Average the faces that several scales agree on, float32 [n,16].

        The last column is the number of scales that found the face. Scores are the best of the
        scales; boxes and landmarks are weighted by score, from faces of 20 to 300 pixels where
        the teacher is at its best.
        """
        found = []
        height, width = rgb.shape[:2]
        for side in longest:
            scale = side / max(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = np.asarray(cv2.resize(rgb, size, interpolation=method), np.uint8)
            rows = self.detect(small)
            extent = rows[:, 3] - rows[:, 1]
            rows = rows[(extent > 14) & (extent < 340)]
            rows[:, :14] *= np.tile([width / size[0], height / size[1]], 7)
            found.append(rows)
        rows = np.concatenate(found)
        merged = []
        order = list(np.argsort(-rows[:, 14]))
        while order:
            best = order[0]
            overlap = box_iou(rows[best : best + 1, :4], rows[order, :4])[0]
            group = [index for index, iou in zip(order, overlap, strict=True) if iou > 0.4]
            order = [index for index in order if index not in group]
            weight = rows[group, 14] ** 2
            mean = (rows[group, :14] * weight[:, None]).sum(0) / weight.sum()
            merged.append(np.concatenate([mean, [rows[best, 14], len(group)]]))
        return np.asarray(merged, np.float32).reshape(-1, ROW + 1)


def box_iou(first: Floats, second: Floats) -> Floats:
    """Return intersection over union of boxes [n,4] and [m,4] as float32 [n,m]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    overlap = np.clip(high - low, 0, None).prod(-1)
    area = [np.clip(b[:, 2:4] - b[:, :2], 0, None).prod(-1) for b in (first, second)]
    return np.asarray(
        overlap / np.maximum(area[0][:, None] + area[1][None] - overlap, 1e-6), np.float32
    )


def non_maximum_suppression(rows: Floats, threshold: float) -> Floats:
    """Keep the best of rows [n,15] that overlap by more than `threshold`, sorted by score."""
    rows = rows[np.argsort(-rows[:, 14])]
    kept: list[int] = []
    for index in range(len(rows)):
        if not kept or box_iou(rows[index : index + 1], rows[kept])[0].max() <= threshold:
            kept.append(index)
    return rows[kept]


def is_portrait(detector: YuNet, rgb: npt.NDArray[np.uint8]) -> bool:
    """Tell whether a photo has exactly one face, of a tenth of its height or more."""
    rows = detector.detect_at_scales(rgb, (160, 320, 640))
    rows = rows[rows[:, 14] > 0.6]
    return len(rows) == 1 and bool(rows[0, 3] - rows[0, 1] >= 0.1 * rgb.shape[0])
