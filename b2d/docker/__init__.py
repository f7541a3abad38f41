"""Talk to the Docker Engine API, and manage the Docker client's contexts."""
