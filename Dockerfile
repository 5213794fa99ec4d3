# The service, without torch. Build: docker/build.sh, or plain `docker build .`
# Any image with CPython >= 3.11 and pip serves as BASE, best by its digest: python:3.11-slim@sha256:…
# GROUP=objects adds what reads stores in S3 and Google Cloud Storage, GROUP=ray what Ray Serve needs.
ARG BASE=python:3.11-slim
ARG GROUP=serve

FROM ${BASE} AS build
ARG GROUP
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv --without-pip /opt/convserve
# A host behind a proxy or a mirror gives its pip configuration and its certificates as secrets;
# neither enters the image, and where they are not given the mounts are left out.
COPY requirements/${GROUP}.txt requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip --python /opt/convserve/bin/python install --no-compile --require-hashes -r requirements/${GROUP}.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY models/store/artifact.schema.json models/store/
COPY models/convserve_models models/convserve_models
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip wheel --no-deps --wheel-dir /wheel . \
 && python3 -m pip --python /opt/convserve/bin/python install --no-compile --no-deps /wheel/*.whl
# What is inside, as CycloneDX: docker run --entrypoint cat IMAGE /opt/convserve/sbom.cdx.json
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/sbom \
 && /opt/sbom/bin/python -m pip install --quiet cyclonedx-bom==7.5.0 \
 && /opt/sbom/bin/cyclonedx-py environment --output-reproducible \
    --output-file /opt/convserve/sbom.cdx.json /opt/convserve/bin/python \
 && rm -r /opt/sbom
COPY models/store /image/store
# The same bytes whenever it is built: code compiled by its content, every file of one time.
ARG SOURCE_DATE_EPOCH=0
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/convserve \
 && mkdir /image/opt && mv /opt/convserve /image/opt/ \
 && chmod -R a=rX /image \
 && find /image -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
ARG BASE
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="convserve" \
      org.opencontainers.image.description="Serves convolutional networks over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /image /
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
