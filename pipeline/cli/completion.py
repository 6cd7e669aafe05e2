"""`nightlabel completion`"""

import click

from pipeline.cli import options
from pipeline.cli.console.output import say_json
from pipeline.errors import Exit

#: The environment variable with which a shell asks Click for completions.
VARIABLE = "_NIGHTLABEL_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@options.output
def completion(shell: str, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Print the script with which SHELL (bash, zsh or fish) completes commands and options.

    \b
    Examples:
      eval "$(nightlabel completion bash)"        in ~/.bashrc
      eval "$(nightlabel completion zsh)"         in ~/.zshrc
      nightlabel completion fish | source         in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from pipeline.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - each of the choices is click's
    # Not `source`, which starts a bash to ask for its version, and warns on stdout.
    made = kind(cli, {}, "nightlabel", VARIABLE)
    script = made.source_template % made.source_vars()
    if as_json:
        say_json({"shell": shell, "script": script})
    else:
        click.echo(script)
    return Exit.OK
