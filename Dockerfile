# One image for a head, its workers and the machine that submits; docs/kubernetes.md says how to build
# it. `cpu` runs anywhere; `cuda` is the same, but its build fails without CUDA.
#
# The base image, by its digest, because a tag may move: without a digest the build fails at once. It
# needs Python 3.11 or later and apt, such as python:3.11-slim-bookworm.
ARG BASE
ARG DIGEST

FROM ${BASE}@${DIGEST} AS wheel
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY locks locks
RUN pip install --no-cache-dir --require-hashes --only-binary=:all: -r locks/build-system.txt
COPY pyproject.toml MANIFEST.in README.md LICENSE ./
COPY nightlabel nightlabel
COPY pipeline pipeline
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${BASE}@${DIGEST} AS cpu
ARG TORCH_INDEX=""
LABEL org.opencontainers.image.title="nightlabel" \
      org.opencontainers.image.description="rsync for labels" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# KubeRay starts Ray through bash, which the base image has; its older releases check Ray's health
# with wget, which it lacks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 nightlabel
COPY locks /opt/nightlabel/locks
COPY .ci/install.py /opt/nightlabel/.ci/
# The largest layer by far, which changes only with the locks. An index of torch's builds can serve
# nothing else: every file is checked against its digest.
RUN PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL="$TORCH_INDEX" \
    python /opt/nightlabel/.ci/install.py /opt/nightlabel/locks/cluster.txt
# pip would install the package without the compiled kernel; the image must have it.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    PIP_NO_CACHE_DIR=1 python /opt/nightlabel/.ci/install.py \
        /opt/nightlabel/locks/cluster.txt /wheels/*.whl \
    && python -c "import pipeline.images._resample"
# A stopped job gets half a minute to commit what it has; Ray's own default is three seconds.
# One heap per process: docs/cluster.md, Memory.
ENV PYTHONUNBUFFERED=1 RAY_JOB_STOP_WAIT_TIME_S=30 MALLOC_ARENA_MAX=1
# By number: Kubernetes cannot know whether a user name is root.
USER 1000
WORKDIR /home/nightlabel
# No entry point: KubeRay brings its own commands.
CMD ["nightlabel", "--help"]

FROM cpu AS cuda
RUN python -c "import torch; assert torch.version.cuda, 'TORCH_INDEX has no CUDA'"
# torch's wheel contains CUDA; the machine only needs the driver. Kubernetes decides which GPUs a
# container sees: with a default here, pods that requested none would see them all.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
