# Everything that a head, its workers and whoever submits need; docs/kubernetes.md tells how it is
# built. `cpu` runs anywhere; `cuda` is the same, and refuses to be built without CUDA.
#
# The base image, by its digest, since a tag is moved: without one the build ends at once. It must be
# of Python 3.11 or later, with apt, such as python:3.11-slim-bookworm.
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
# KubeRay starts Ray through bash, which is here, and its older releases ask for Ray's health
# with wget, which is not.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 nightlabel
COPY locks /opt/nightlabel/locks
COPY .ci/install.py /opt/nightlabel/.ci/
# The largest layer by far, which changes only with the locks. An index of torch's builds can serve
# nothing else: every file is held to its digest.
RUN PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL="$TORCH_INDEX" \
    python /opt/nightlabel/.ci/install.py /opt/nightlabel/locks/cluster.txt
# The kernel is optional to pip, but not here.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    PIP_NO_CACHE_DIR=1 python /opt/nightlabel/.ci/install.py \
        /opt/nightlabel/locks/cluster.txt /wheels/*.whl \
    && python -c "import pipeline.images._resample"
# A stopped job gets half a minute to commit what it has; Ray's own default is three seconds.
# Of one heap a process: docs/cluster.md, Memory.
ENV PYTHONUNBUFFERED=1 RAY_JOB_STOP_WAIT_TIME_S=30 MALLOC_ARENA_MAX=1
# By number, since Kubernetes cannot tell of a name that it is not root.
USER 1000
WORKDIR /home/nightlabel
# No entry point: KubeRay brings its own commands.
CMD ["nightlabel", "--help"]

FROM cpu AS cuda
RUN python -c "import torch; assert torch.version.cuda, 'TORCH_INDEX has no CUDA'"
# torch brings CUDA itself; of the machine only the driver is asked for. Which GPUs a container
# sees is for Kubernetes to say: by a default here, pods that asked for none would see them all.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
