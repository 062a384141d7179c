"""The command `everyroof`; subcommands are imported only when called, so that --help is instant."""

import importlib
import sys

import click

_COMMANDS = {
    "run": ("pipeline.cli.run:run_command", "Turn imagery into footprints."),
    "plan": ("pipeline.cli.plan:plan_command", "Say what a run would do: tiles, time, size."),
    "inspect": ("pipeline.cli.inspect:inspect_command", "Show what a result holds."),
    "query": ("pipeline.cli.query:query_command", "Find footprints of a result."),
    "explain": ("pipeline.cli.explain:explain_command", "Draw every stage of one tile."),
    "evaluate": (
        "pipeline.cli.evaluate:evaluate_command",
        "Score footprints against labels, or a bundle over places.",
    ),
    "calibrate": ("pipeline.cli.calibrate:calibrate_command", "Calibrate a bundle's confidence."),
    "export": ("pipeline.cli.export:export_command", "Export a bundle as ONNX or torch.export."),
    "pack": ("pipeline.cli.pack:pack_command", "Read training data into one chip pack."),
    "places": (
        "pipeline.cli.places:places_command",
        "Write a pack's held-out places to evaluate on.",
    ),
    "train": ("pipeline.cli.train:train_command", "Train a network on a chip pack."),
    "chip-losses": (
        "pipeline.cli.chip_losses:chip_losses_command",
        "Show where labels and network disagree most.",
    ),
    "fine-tune": (
        "pipeline.cli.fine_tune:fine_tune_command",
        "Fit a bundle to labels of your own.",
    ),
    "pool": ("pipeline.cli.pool:pool_command", "Read unlabelled images for self-training."),
    "self-train": (
        "pipeline.cli.self_train:self_train_command",
        "Train a student on a teacher's labels (Noisy Student).",
    ),
    "ablate": ("pipeline.cli.ablate:ablate_command", "Train without one thing at a time."),
    "demo": ("pipeline.cli.demo:demo_command", "Draw a town, run on it, score the result."),
    "bundle": ("pipeline.cli.bundle:bundle_group", "Make and show bundles (network + metadata)."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="everyroof", prog_name="everyroof")
def cli() -> None:
    """Building footprints from satellite and aerial imagery.

    \b
    everyroof run --image X.tif --out DIR --model BUNDLE    one image, no configuration
    everyroof run CONFIG                                    everything, from a YAML file
    """  # noqa: D301 - click reads the backslash


def main() -> None:
    """Entry of the console script."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - decides how much of it a person should see
        _show_error(error)


def _show_error(error: Exception) -> None:
    names = {cls.__name__ for cls in type(error).__mro__}
    if "EveryroofError" not in names:
        raise error
    from geo.remote_names import redact

    click.echo(redact(f"everyroof: {error}"), err=True)
    sys.exit(2)
