# The whole product for datacenter and workstation GPUs, and for Jetson Thor, whose JetPack 7 runs what other Arm servers
# run. Versions are build arguments; docker/README.md lists the pairs.
ARG CUDA_VERSION=13.0.2

FROM nvcr.io/nvidia/cuda:${CUDA_VERSION}-devel-ubuntu24.04 AS build
ARG CUDA_VERSION
ARG TENSORRT_VERSION=11.4.0.106
ARG PYCUDA_VERSION=2026.1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/trt-mpq
ENV PATH=/opt/trt-mpq/bin:${PATH}
# The final image has no cuRAND, which pycuda links unless told otherwise.
WORKDIR /tmp/pycuda
RUN pip download --no-cache-dir --no-deps --no-binary pycuda "pycuda==${PYCUDA_VERSION}" \
    && tar --extract --strip-components 1 --file "pycuda-${PYCUDA_VERSION}.tar.gz" \
    && python configure.py --cuda-root=/usr/local/cuda --no-cuda-enable-curand \
    && pip install --no-cache-dir .
RUN pip install --no-cache-dir --extra-index-url https://pypi.nvidia.com \
    "tensorrt-cu${CUDA_VERSION%%.*}==${TENSORRT_VERSION}"
COPY pyproject.toml README.md LICENSE /src/
COPY engines/targets /src/engines/targets
COPY calib/recipes /src/calib/recipes
COPY docker/constraints.lock /src/
COPY trt_mpq /src/trt_mpq
RUN pip install --no-cache-dir --constraint /src/constraints.lock "/src[cuda,images,signing]"

FROM nvcr.io/nvidia/cuda:${CUDA_VERSION}-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 mpq
COPY --from=build /opt/trt-mpq /opt/trt-mpq
ENV PATH=/opt/trt-mpq/bin:${PATH}
USER 10001
WORKDIR /work
ENTRYPOINT ["trt-mpq"]
