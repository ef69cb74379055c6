# Training: Ray's nodes, the MLflow server, and what starts the daily run. From the root of the repository:
#   docker build -f docker/training.Dockerfile -t REGISTRY/recsys-mtl-training:VERSION .
#   docker build -f docker/training.Dockerfile -t REGISTRY/recsys-mtl-training:VERSION-gpu --build-arg DEVICE=gpu .
# For the same bytes each time, give the base by its digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=cpu
# pip's own settings, with --build-arg. The CPU build of torch is in an index of its own, which pytorch.org names: without it
# as PIP_EXTRA_INDEX_URL, pip takes the build with CUDA, which runs as well and is several times as large.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements requirements
RUN pip install -r "requirements/$DEVICE.txt" -r requirements/mlflow-server.txt \
    && pip install --no-deps -r "requirements/nodeps-$DEVICE.txt"
COPY pyproject.toml README.md LICENSE ./
COPY recsys_mtl recsys_mtl
COPY pipelines pipelines
COPY serving serving
RUN pip install --no-deps --no-build-isolation .

FROM ${BASE}
# KubeRay asks Ray's nodes with wget how they are. A release of Debian has one version of it at a time, and no older ones
# to pin; the base fixes the release.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp recsys
COPY --from=build /opt/venv /opt/venv
# Presets, where the chart looks for them.
COPY pipelines/configs /app/configs
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001
CMD ["recsys-mtl", "--help"]
