# The service, without torch. Build: docker/build.sh, or plain `docker build .`
# Any image with CPython >= 3.11 and pip serves as BASE.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv --without-pip /opt/convserve
# A host behind a proxy or a mirror gives its pip configuration and its certificates as secrets;
# neither enters the image, and where they are not given the mounts are left out.
COPY requirements/serve.txt requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip --python /opt/convserve/bin/python install --require-hashes -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY models/store/artifact.schema.json models/store/
COPY models/convserve_models models/convserve_models
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip wheel --no-deps --wheel-dir /wheel . \
 && python3 -m pip --python /opt/convserve/bin/python install --no-deps /wheel/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="convserve" \
      org.opencontainers.image.description="Serves convolutional networks over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/convserve /opt/convserve
# Readable by the service's user whatever the umask of the clone was.
COPY --chmod=0555 models/store /store
ENV PATH=/opt/convserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CONVSERVE_HOST=0.0.0.0 \
    CONVSERVE_PORT=8000 \
    CONVSERVE_STORE=/store \
    CONVSERVE_CACHE=/tmp/convserve
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['CONVSERVE_PORT'] + '/readyz', timeout=2)"]
ENTRYPOINT ["convserve"]
CMD ["serve"]
