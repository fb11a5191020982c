"""The sequential ONNX Runtime pipeline behind FastAPI: what a user would deploy first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import cv2
from fastapi import FastAPI, Form, Response, UploadFile

from loadtest.baselines.runtimes import OnnxRuntime
from loadtest.baselines.sequential import SequentialPipeline

cv2.setNumThreads(1)
_REPOSITORY = Path(os.environ.get("HEADSHOT_MODEL_REPOSITORY", "model_repository"))
_pipeline = SequentialPipeline(
    OnnxRuntime(_REPOSITORY), _REPOSITORY, os.environ.get("BASELINE_RENDITION", "web")
)
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, bool]:
    """Say that the models are loaded."""
    return {"ready": True}


@app.post("/headshot")
def headshot(photo: UploadFile, seed: Annotated[int, Form()] = 0) -> Response:
    """Return a headshot; FastAPI runs this on its thread pool."""
    return Response(_pipeline.make(photo.file.read(), seed), media_type="image/jpeg")
