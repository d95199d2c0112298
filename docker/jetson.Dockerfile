# The whole product for Jetson with JetPack 6 (Python 3.10). TensorRT and its Python bindings are the system's, tied to
# the JetPack release, so the virtual environment sees the system's packages.
ARG L4T_RELEASE=r36.4.0
FROM nvcr.io/nvidia/l4t-jetpack:${L4T_RELEASE}
ARG PYCUDA_VERSION=2026.1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv python3-libnvinfer \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /opt/trt-mpq
ENV PATH=/opt/trt-mpq/bin:/usr/local/cuda/bin:${PATH}
WORKDIR /tmp/pycuda
RUN pip download --no-cache-dir --no-deps --no-binary pycuda "pycuda==${PYCUDA_VERSION}" \
    && tar --extract --strip-components 1 --file "pycuda-${PYCUDA_VERSION}.tar.gz" \
    && python configure.py --cuda-root=/usr/local/cuda --no-cuda-enable-curand \
    && pip install --no-cache-dir . \
    && rm -rf /tmp/pycuda/*
COPY pyproject.toml README.md LICENSE /src/
COPY engines/targets /src/engines/targets
COPY calib/recipes /src/calib/recipes
COPY docker/jetpack6.lock /src/
COPY trt_mpq /src/trt_mpq
RUN pip install --no-cache-dir --constraint /src/jetpack6.lock "/src[cuda,images,signing]" \
    && rm -rf /src \
    && useradd --create-home --uid 10001 --groups video mpq
USER 10001
WORKDIR /work
ENTRYPOINT ["trt-mpq"]
