# `docker build -t rivulet .` takes torch as the default index has it, which on x86-64 Linux runs on the CPU and on CUDA.
# A smaller image for the CPU alone, or another CUDA: `--build-arg TORCH_INDEX=URL`, one of PyTorch's own wheel indexes.
# It listens on all addresses of the container, so it starts only with keys (docs/security.md): `docker run --rm rivulet rivulet keys new NAME`
# makes one; then -e RIVULET_KEYS='[{"name": "NAME", "sha256": "..."}]', or -v ./rivulet.toml:/rivulet.toml:ro -e RIVULET_CONFIG=/rivulet.toml.
# To try it on this machine alone: -p 127.0.0.1:8000:8000 -e RIVULET_INSECURE=true
# WebRTC needs UDP: --network host, or -p 50000-50199:50000-50199/udp with --rtc-ports and --rtc-public (docs/webrtc.md).
# Weights other than the embedded ones are mounted, not baked: -v models:/models -e RIVULET_CACHE=/models
FROM node:22-bookworm-slim AS page
WORKDIR /page/clients/web
COPY clients/web/package.json clients/web/package-lock.json clients/web/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY clients/web ./
COPY tests/golden_wire.json /page/tests/golden_wire.json
RUN npm run build

FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=
RUN useradd --create-home --uid 10001 rivulet && mkdir /models && chown rivulet /models
WORKDIR /app
COPY constraints.txt pyproject.toml README.md ./
COPY clients/python clients/python
RUN pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url ${TORCH_INDEX}}
COPY streaming streaming
COPY models models
COPY server server
COPY clients/__init__.py clients/__init__.py
COPY clients/bench clients/bench
RUN pip install --no-cache-dir -c constraints.txt ./clients/python -e .
COPY --from=page /page/clients/web/dist clients/web/dist
USER rivulet
ENV RIVULET_CACHE=/models RIVULET_HOST=0.0.0.0 RIVULET_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["rivulet", "serve"]
