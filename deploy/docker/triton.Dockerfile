# NVIDIA's Triton with this repository's model files. Build from the repository root:
#   docker build -f deploy/docker/triton.Dockerfile -t headshot-triton:0.1.0 .
# The compact models are in the image; a studio repository is mounted over /models (plans are locked
# to a GPU and are built where they run).
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3

FROM ${TRITON_IMAGE}
LABEL org.opencontainers.image.title="headshot-triton" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY model_repository /models
ENV MODEL_CONFIG_NAME=""
# The image brings the unprivileged user triton-server.
USER triton-server
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8000/v2/health/ready"]
# The server refuses an empty --model-config-name: it is left out unless a variant is chosen.
# Connections end after a minute (their calls go on), so that clients resolve the name again and find
# the pods that scaling out has added.
# exec: SIGTERM must reach the server, which then finishes the requests it has.
ENTRYPOINT ["/bin/sh", "-c", "exec tritonserver --model-repository=/models ${MODEL_CONFIG_NAME:+--model-config-name=$MODEL_CONFIG_NAME} --model-control-mode=none --strict-readiness=true --exit-on-error=true --disable-auto-complete-config --exit-timeout-secs=30 --grpc-max-connection-age=60000 --grpc-max-connection-age-grace=600000 --metrics-config=histogram_latencies=true --log-verbose=0 \"$@\"", "tritonserver"]
