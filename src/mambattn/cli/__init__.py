"""The command line: ``mambattn compare | fit | predict | explain | describe | recall | bench``, one file a command.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

import click

from mambattn.cli._group import CommandGroup
from mambattn.cli.bench import bench
from mambattn.cli.compare import compare
from mambattn.cli.describe import describe
from mambattn.cli.explain import explain
from mambattn.cli.fit import fit
from mambattn.cli.predict import predict
from mambattn.cli.recall import recall

__all__ = ["main"]


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mambattn", message="%(prog)s %(version)s")
def main() -> None:
    """Which mixer suits your table: Mamba, attention, or both?

    Start with `mambattn compare DATA --target COLUMN`, where DATA is a CSV or Parquet file, or one of breast_cancer,
    wine, digits and diabetes.
    """


for _command in (compare, fit, predict, explain, describe, recall, bench):
    main.add_command(_command)
