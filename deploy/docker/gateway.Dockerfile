# The gateway alone: Python and pinned packages (those of the extras c2pa and tracing, too), no Triton,
# no models. Build from the repository root:
#   docker build -f deploy/docker/gateway.Dockerfile -t headshot-gateway:0.1.0 .
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv /opt/headshot \
    && /opt/headshot/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY service service
RUN /opt/headshot/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && /opt/headshot/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="headshot-gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
# CMYK output needs real profiles.
RUN apt-get update \
    && apt-get install --no-install-recommends --yes icc-profiles-free \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin headshot
COPY --from=build /opt/headshot /opt/headshot
ENV PATH=/opt/headshot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8051 8052
HEALTHCHECK --interval=10s --timeout=3s --start-period=210s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8052/readyz', timeout=2)"]
ENTRYPOINT ["headshot"]
CMD ["serve"]
