# Debian 13 has Mesa 25.0, which renders for SAPIEN on the CPU; the release is named because a
# plain 3.11-slim would move to another one.
FROM python:3.11-slim-trixie

COPY packages.txt /tmp/packages.txt
RUN apt-get update \
    && xargs -a /tmp/packages.txt apt-get install --yes --no-install-recommends \
    && rm -rf /var/lib/apt/lists/* /tmp/packages.txt

# Spaces run a container as user 1000.
RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/vlm4vla

# First what changes rarely: packages stay in their layer while the code changes.
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt torch \
        --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple \
    && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt

COPY --chown=user . .
RUN pip install --no-cache-dir --no-deps --editable .

USER user
ENV HOME=/home/user \
    HOST=0.0.0.0 \
    PORT=7860 \
    VLM4VLA_HOME=/home/user/data
EXPOSE 7860

# The self-test's report opens the log. Recordings play even where it fails, so the app starts.
CMD ["sh", "-c", "vlm4vla doctor; exec python app.py"]
