# The ranking API, without Ray. From the root of the repository:
#   docker build -f docker/serving.Dockerfile -t REGISTRY/recsys-mtl-serving:VERSION .
#   docker run --read-only --tmpfs /tmp -v cache:/cache -p 8000:8000 -e RECSYS_MTL_TRACKING_URI=http://mlflow:5000 IMAGE
# For the same bytes each time, give the base by its digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
# pip's own settings, with --build-arg. The CPU build of torch is in an index of its own, which pytorch.org names: without it
# as PIP_EXTRA_INDEX_URL, pip takes the build with CUDA, which runs as well and is several times as large.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements requirements
RUN pip install -r requirements/serving.txt && pip install --no-deps -r requirements/nodeps-cpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY recsys_mtl recsys_mtl
COPY pipelines pipelines
COPY serving serving
RUN pip install --no-deps --no-build-isolation .

FROM ${BASE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp recsys \
    && install --directory --owner=10001 --group=10001 /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    RECSYS_MTL_HOST=0.0.0.0 RECSYS_MTL_CACHE_DIR=/cache
WORKDIR /app
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["python", "-m", "serving"]
