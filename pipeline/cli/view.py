"""`everyroof view`: a result on a map in the browser, from this machine alone."""

import click


@click.command("view")
@click.argument("out")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="FILE",
    help="Image to show under the footprints; may be repeated. Without it: the run's own images.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8642,
    show_default=True,
    help="Port to answer on; the next free one if it is taken.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to answer on. Any other than the default lets other machines see the data.",
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.option(
    "--export",
    "page",
    type=click.Path(dir_okay=False),
    help="Write one self-contained page to this file instead.",
)
@click.option(
    "--bbox",
    metavar="WEST,SOUTH,EAST,NORTH",
    help="With --export: only what lies here, in degrees.",
)
@click.option("--overwrite", is_flag=True, help="With --export: replace the file.")
def view_command(
    out: str,
    images: tuple[str, ...],
    port: int,
    host: str,
    no_browser: bool,
    page: str | None,
    bbox: str | None,
    overwrite: bool,
) -> None:
    """Show the result in OUT on a map, in the browser.

    Works without the internet: the page, its map library and the data come from this machine.
    Ctrl-C ends it.
    """
    if bbox is not None and page is None:
        raise click.UsageError("--bbox narrows --export; on the served page, just zoom in")
    if overwrite and page is None:
        raise click.UsageError("--overwrite goes with --export")
    if page is not None:
        _export(out, images, page, bbox, overwrite)
        return
    from pipeline.viewer.scene import open_scene

    scene = open_scene(out, images)
    for problem in scene.problems:
        click.echo(problem, err=True)
    from pipeline.viewer.server import bind, serve

    try:
        listener = bind(host, port)
    except OSError as error:
        raise click.ClickException(f"cannot answer on {host}:{port}: {error}") from error
    with listener:
        url = _url(host, listener.getsockname()[1])
        serve(scene, listener, host, lambda: _greet(url, port, host, not no_browser))


def _export(
    out: str, images: tuple[str, ...], page: str, bbox: str | None, overwrite: bool
) -> None:
    from pathlib import Path

    from pipeline.targets import check_targets
    from pipeline.viewer.exported_page import export_page
    from pipeline.viewer.scene import open_scene

    check_targets([Path(page)], overwrite=overwrite, sources=images)
    scene = open_scene(out, images)
    for problem in scene.problems:
        click.echo(problem, err=True)
    bounds = None if bbox is None else _bounds(bbox)
    exported = export_page(scene, Path(page), bounds)
    click.echo(
        f"{page}: {exported.num_footprints:,} footprints, {exported.num_bytes / 1e6:.1f} MB; "
        "open it in any browser"
    )


def _bounds(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected four numbers, WEST,SOUTH,EAST,NORTH", param_hint="--bbox"
        ) from None
    return west, south, east, north


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/"


def _greet(url: str, wanted_port: int, host: str, is_opened: bool) -> None:
    import webbrowser

    if wanted_port and f":{wanted_port}/" not in url:
        click.echo(f"port {wanted_port} is taken")
    click.echo(f"{url} shows the result; Ctrl-C ends it")
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(f"other machines that reach {host} can see it too", err=True)
    if is_opened:
        webbrowser.open(url)
