# Everything that runs without a GPU: search, emission, reports.
FROM python:3.12.12-slim-bookworm
COPY pyproject.toml README.md LICENSE /src/
COPY engines/targets /src/engines/targets
COPY calib/recipes /src/calib/recipes
COPY trt_mpq /src/trt_mpq
RUN pip install --no-cache-dir "/src[images]" \
    && rm -rf /src \
    && useradd --create-home --uid 10001 mpq
USER 10001
WORKDIR /work
ENTRYPOINT ["trt-mpq"]
