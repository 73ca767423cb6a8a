# The writer: Ray, teachers of any size and file on GPUs, span annotators, S3. Build from the repository's root:
#   docker build -f docker/pipeline.Dockerfile -t stillroom-pipeline .
FROM nvidia/cuda:12.8.1-base-ubuntu24.04
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
# torch brings its own CUDA libraries: the base image only has to expose the driver.
RUN python3 -m venv /opt/venv && pip install --no-cache-dir torch==2.13.0
WORKDIR /stillroom
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY trainer trainer
COPY jobs jobs
RUN pip install --no-cache-dir '.[pipeline,spread,gguf,lora,remote]'
WORKDIR /data
ENTRYPOINT []
CMD ["stillroom", "--help"]
