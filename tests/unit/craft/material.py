"""Pictures with known truth for the craft's tests: skimage's astronaut and real photos."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from headshot.imaging.framing import PortraitFrame, plan_portrait
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

ASTRONAUT_LANDMARKS = np.array(
    [[203, 104], [248, 104], [224, 128], [204, 143], [243, 144]], np.float32
)
PHOTOS = Path(
    os.environ.get(
        "HEADSHOT_PHOTOS", Path(__file__).resolve().parents[3].parent / "shared" / "photos"
    )
)
# Eyes, nose and mouth corners of the development photos, to the pixel.
PHOTO_LANDMARKS: dict[str, list[list[int]]] = {
    "london_025": [[564, 692], [775, 696], [666, 826], [576, 905], [760, 907]],
    "london_025_smiling": [[574, 673], [780, 677], [660, 801], [581, 876], [775, 877]],
    "london_037": [[564, 545], [770, 550], [663, 671], [579, 775], [749, 778]],
    "london_037_smiling": [[570, 607], [782, 619], [668, 740], [572, 828], [762, 837]],
    "london_092": [[595, 677], [794, 680], [701, 796], [608, 882], [780, 883]],
    "london_092_smiling": [[574, 727], [768, 728], [676, 845], [589, 933], [749, 935]],
    "official_al-green": [[457, 476], [673, 501], [571, 619], [437, 687], [638, 708]],
    "official_andre-carson": [[396, 436], [625, 422], [523, 566], [414, 654], [641, 640]],
    "official_dan-newhouse": [[379, 381], [601, 393], [483, 517], [373, 605], [585, 615]],
    "official_tammy-duckworth": [[402, 398], [597, 408], [500, 516], [395, 572], [593, 580]],
    "official_tim-scott": [[386, 333], [611, 355], [467, 472], [372, 557], [579, 578]],
    "selfie_door_30cm": [[475, 670], [717, 659], [599, 813], [505, 933], [707, 924]],
    "selfie_door_45cm": [[521, 656], [721, 661], [624, 771], [524, 872], [702, 876]],
    "selfie_lamp_1": [[218, 358], [382, 353], [307, 463], [237, 548], [371, 544]],
    "selfie_lamp_2": [[240, 385], [335, 388], [290, 442], [244, 483], [325, 486]],
}


def astronaut_frame(canvas: int = 640) -> PortraitFrame:
    """Return the planned portrait of the astronaut."""
    return plan_portrait(ASTRONAUT_LANDMARKS, None, (512, 512), canvas=canvas)


def astronaut_portrait(canvas: int = 640) -> tuple[U8, F32]:
    """Return the astronaut on her portrait canvas and the landmarks there."""
    frame = astronaut_frame(canvas)
    image = cv2.warpAffine(
        skimage.data.astronaut(),
        frame.matrix,
        (canvas, canvas),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(image, np.uint8), frame.landmarks


def person_alpha(canvas: int = 640, *, strands: bool = True) -> F32:
    """Return a matte of head, hair fringe and shoulders that fits `astronaut_portrait`."""
    big = np.zeros((canvas, canvas), np.uint8)
    face = astronaut_frame(canvas).face
    x, y = face.eyes
    s = face.scale
    cv2.ellipse(big, (round(x), round(y)), (round(1.5 * s), round(1.85 * s)), 0, 0, 360, 255, -1)
    neck = [(x - 0.7 * s, y + s), (x + 0.7 * s, y + s), (x + 0.8 * s, y + 2.6 * s)]
    neck += [(x - 0.8 * s, y + 2.6 * s)]
    body = [(x - 0.9 * s, y + 2.2 * s), (x + 0.9 * s, y + 2.2 * s)]
    body += [(x + 3 * s, y + 3.2 * s), (x + 4.9 * s, canvas), (x - 4.9 * s, canvas)]
    body += [(x - 3 * s, y + 3.2 * s)]
    for points in (neck, body):
        cv2.fillPoly(big, [np.rint(points).astype(np.int32)], 255)
    if strands:
        rng = np.random.default_rng(3)
        for angle in rng.uniform(np.pi * 1.05, np.pi * 1.95, 140):
            start = (x + 1.45 * s * np.cos(angle), y + 1.8 * s * np.sin(angle))
            length = rng.uniform(0.08, 0.3) * s
            bend = angle + rng.uniform(-0.5, 0.5)
            end = (start[0] + length * np.cos(bend), start[1] + length * np.sin(bend))
            cv2.line(
                big,
                (round(start[0]), round(start[1])),
                (round(end[0]), round(end[1])),
                200,
                1,
                cv2.LINE_AA,
            )
    return np.asarray(cv2.GaussianBlur(big, (0, 0), canvas / 640), np.float32) / np.float32(255)


def leaning(image: U8, landmarks: F32, degrees: float) -> tuple[U8, F32]:
    """Return a photo turned about the face, anticlockwise, and the landmarks in it."""
    x, y = landmarks.mean(axis=0)
    matrix = cv2.getRotationMatrix2D((float(x), float(y)), degrees, 1.0)
    turned = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    points = landmarks @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(turned, np.uint8), np.asarray(points, np.float32)


def plain(colour: tuple[int, int, int], canvas: int = 640) -> U8:
    """Return a picture of one colour."""
    image = np.empty((canvas, canvas, 3), np.uint8)
    image[:] = colour
    return image


def over(fore: U8, alpha: F32, back: U8) -> U8:
    """Return the exact composite in coded values: the world's own picture, for truth."""
    a = alpha[..., None]
    return np.asarray(np.rint(a * fore + (1 - a) * back), np.uint8)


def photo_names() -> list[str]:
    """Return the development photos that are present."""
    return [name for name in PHOTO_LANDMARKS if (PHOTOS / f"{name}.jpg").is_file()]


def photo(name: str) -> tuple[U8, F32]:
    """Return a development photo and its landmarks."""
    bgr = cv2.imread(str(PHOTOS / f"{name}.jpg"), cv2.IMREAD_COLOR)
    image = np.ascontiguousarray(bgr[..., ::-1])
    return np.asarray(image, np.uint8), np.array(PHOTO_LANDMARKS[name], np.float32)
