"""What `submit` prints if the night's job has ended: nothing runs, and what is new since."""

from typing import TYPE_CHECKING

from pipeline.cli.cluster.follow import say_end
from pipeline.cli.console.output import say, words_of

if TYPE_CHECKING:
    from pipeline.cluster.server import Job, JobServer
    from pipeline.scan.new_images import NewImages
    from pipeline.spec import LabelSpec


def say_completed(
    server: "JobServer", spec: "LabelSpec", night: str, job: "Job", *, as_json: bool
) -> int:
    """Print when the job ended and what is not labelled; returns its exit code."""
    from pipeline.cluster.following import summary_in
    from pipeline.cluster.submission import another_night
    from pipeline.scan.new_images import count_new_images

    summary = summary_in(server.log(job.id))
    found = count_new_images(spec, summary.recipe if summary else None)
    other = another_night(server, spec, night)
    facts = {
        "attached": True,
        "already_completed": True,
        "night": night,
        "ended": job.ended.isoformat() if job.ended else None,
        "since": found.as_dict(),
        "another_night": other,
    }
    code = say_end(job, summary, facts, as_json=as_json)
    say(_line(job, code, found, other, words_of(spec).done), err=True)
    return code


def _line(job: "Job", code: int, found: "NewImages", other: str, done: str) -> str:
    ended = f" at {job.ended:%Y-%m-%d %H:%M} UTC" if job.ended else ""
    return (
        f"NOTHING WAS RUN: job {job.id} already completed{ended}, with exit code {code}; "
        f"{_since(found, done)}. To run this night again, use --night {other}"
    )


def _since(found: "NewImages", done: str) -> str:
    if found.unlabelled is None:
        return (
            f"images that arrived since are NOT {done} (they could not be counted: {found.problem})"
        )
    if found.unlabelled:
        many = (
            "image that is new or changed is"
            if found.unlabelled == 1
            else "images that are new or changed are"
        )
        return f"{'' if found.complete else 'at least '}{found.unlabelled:,} {many} NOT {done}"
    if found.complete:
        return "no image is new or changed since"
    return f"images that arrived since are NOT {done} (none of those checked from here is new)"
