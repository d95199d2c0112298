# Everything that runs without a GPU: search, emission, reports; torch for the export of modules and for gradients, and
# NVIDIA's compiler, TensorRT for RTX, which makes engines without one.
FROM python:3.12.12-slim-bookworm
COPY pyproject.toml README.md LICENSE /src/
COPY engines/targets /src/engines/targets
COPY calib/recipes /src/calib/recipes
COPY docker/constraints.lock /src/
COPY trt_mpq /src/trt_mpq
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint /src/constraints.lock "/src[images,torch,rtx,signing]" \
    && rm -rf /src \
    && useradd --create-home --uid 10001 mpq
USER 10001
WORKDIR /work
ENTRYPOINT ["trt-mpq"]
