"""`mcbn-broker serve`: answers workloads."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.options import DataDir, Kek, KekFile, KmsEndpoint
from mcbn_broker.cli.paths import resolve_data_dir, resolve_kek_file
from mcbn_broker.settings import load_settings

app = typer.Typer()


@app.command(epilog=examples("mcbn-broker serve --listen 0.0.0.0:443 --tls-certificate chain.pem --tls-key key.pem"))
def serve(
    *,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where workloads reach the broker. Default: 127.0.0.1:8443.")
    ] = None,
    health_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="/livez, /readyz and /metrics, plain HTTP. Default: 127.0.0.1:8081."),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    insecure_http: Annotated[
        bool | None,
        typer.Option("--insecure-http", help="Plain HTTP beyond loopback, where a TLS proxy stands in front."),
    ] = None,
    insecure_health: Annotated[
        bool | None,
        typer.Option("--insecure-health", help="Let --health-listen be beyond loopback: plain HTTP, for anybody."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    data_dir: DataDir = None,
    kek_file: KekFile = None,
    kek: Kek = None,
    kms_endpoint: KmsEndpoint = None,
) -> None:
    """Answer workloads. Until SIGTERM; what is in flight then is finished.

    Several brokers on one host need a different --health-listen, as well as a different --listen.

    Everything here, and the limits too, can be set in the environment (MCBN_LISTEN, ...) or in DATA_DIR/broker.toml.
    """
    settings = load_settings(
        resolve_data_dir(data_dir),
        kek_file if kek is not None else resolve_kek_file(kek_file),
        kek=kek,
        kms_endpoint=kms_endpoint,
        listen=listen,
        health_listen=health_listen,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        insecure_http=insecure_http,
        insecure_health=insecure_health,
        log_level=log_level,
    )
    from mcbn_broker.app import serve as run  # noqa: PLC0415  # the web framework costs the other commands a second

    raise typer.Exit(run(settings))
