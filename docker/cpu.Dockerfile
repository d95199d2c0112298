FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir "/src[images]" && rm -rf /src
WORKDIR /work
ENTRYPOINT ["trt-mpq"]
