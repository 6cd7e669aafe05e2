"""A job as commands print it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cluster.server import Job


def document_of(job: "Job") -> dict[str, Any]:
    """The fields of a job that commands print, also as JSON."""
    from pipeline.cluster.following import exit_code

    return {
        "job": job.id,
        "status": job.status,
        "exit_code": int(exit_code(job)) if job.over else None,
        "message": job.message,
        "started": job.started,
        "ended": job.ended,
        "src": job.metadata.get("src"),
        "dst": job.metadata.get("dst"),
    }
