# The reader: torch and transformers, S3; no Ray, no spaCy, no teacher. Build from the repository's root:
#   docker build -f docker/trainer.Dockerfile -t stillroom-trainer .
#   docker run --gpus all -v /data:/data stillroom-trainer train /data/train.yaml
FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1
# By which Triton compiles the losses' kernels, and torch a student whose config says so, on the machine that trains.
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch==2.13.0
WORKDIR /stillroom
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY trainer trainer
COPY jobs jobs
RUN pip install --no-cache-dir '.[trainer,gguf,lora,remote]'
WORKDIR /data
ENTRYPOINT ["stillroom"]
CMD ["--help"]
