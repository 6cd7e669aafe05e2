"""What Ray runs: a specification in, an exit code out (see pipeline/cli/job.py).

    python jobs/label.py job.toml

`nightlabel submit` does the same from wherever the package is installed.
"""

from pipeline.cli.job import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
