"""The whole system in containers: what `docker-compose.yml` needs before it can start."""
