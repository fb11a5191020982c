# Export and engine building: torch, diffusers and TensorRT on one GPU host. From the repository root:
#   docker build -f deploy/docker/export.Dockerfile -t headshot-export:0.1.0 .
# TensorRT must be the version of the Triton image: the same NGC release has the same.
ARG TENSORRT_IMAGE=nvcr.io/nvidia/tensorrt:25.08-py3

FROM ${TENSORRT_IMAGE}
LABEL org.opencontainers.image.title="headshot-export" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /src
COPY requirements/export.txt requirements/torch-cuda.txt requirements/
# The environment sees the image's own TensorRT; everything else comes pinned.
RUN python3 -m venv --system-site-packages /opt/export \
    && /opt/export/bin/pip install --no-cache-dir --require-hashes \
       -r requirements/export.txt -r requirements/torch-cuda.txt
COPY pyproject.toml README.md ./
COPY service service
COPY export_scripts export_scripts
ENV PATH=/opt/export/bin:$PATH \
    PYTHONPATH=/src:/src/service \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin export
USER 10001:10001
ENTRYPOINT ["python"]
CMD ["-m", "export_scripts.studio.export", "--help"]
