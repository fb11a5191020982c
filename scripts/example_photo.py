"""Print the path of a photo that may be shown: the astronaut portrait that scikit-image ships.

Eileen Collins, NASA, public domain.
"""

from __future__ import annotations

from pathlib import Path

import skimage.data

if __name__ == "__main__":
    print(Path(skimage.data.__file__).parent / "astronaut.png")
