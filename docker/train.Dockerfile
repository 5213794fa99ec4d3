# The training side, with torch. Build: docker build -f docker/train.Dockerfile -t convserve-train .
# docker run -v "$PWD/data:/data" -v "$PWD/runs:/runs" convserve-train train all_cnn_cifar10
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG TORCH=torch==2.13.0
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
COPY requirements/train.txt requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip install ${TORCH} \
 && python3 -m pip install --require-hashes -r requirements/train.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY models/store/artifact.schema.json models/store/
COPY models/convserve_models models/convserve_models
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip install --no-deps .
ENV CONVSERVE_DATA=/data CONVSERVE_RUNS=/runs HOME=/tmp
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["convserve-models"]
