"""Work that takes longer than a request: one worker at a time, and another when that one is gone."""

from __future__ import annotations

import pytest
import redis

from worker.errors import LeaseLost, Unavailable
from worker.log.jobs import Claim, Jobs
from worker.log.uploads import UNFINISHED_SECONDS, FileGone, read_file, write_file


@pytest.fixture
def jobs(redis_client: redis.Redis) -> Jobs:
    return Jobs(redis_client, "imports")


def begin(jobs: Jobs, job_id: str = "j1", subject: str = "") -> None:
    assert jobs.begin(job_id, {"status": "preparing"}, subject=subject) is None


def claim(jobs: Jobs, job_id: str = "j1") -> Claim:
    found = jobs.claim(job_id)
    assert found is not None
    return found


def its_worker_is_gone(client: redis.Redis, job_id: str = "j1") -> None:
    """Twenty seconds pass."""
    client.hincrby(f"segsync:{{imports}}:job:{job_id}", "beat_ms", -20_001)


def test_one_worker_is_at_it_at_a_time(jobs: Jobs) -> None:
    begin(jobs)
    first = claim(jobs)
    assert jobs.claim("j1") is None
    first.note(lines=7)
    found = jobs.read("j1")
    assert found is not None
    assert (found["status"], found["lines"]) == ("preparing", "7")


def test_who_shows_itself_no_more_is_followed_by_another(jobs: Jobs, redis_client: redis.Redis) -> None:
    begin(jobs)
    first = claim(jobs)
    its_worker_is_gone(redis_client)
    second = claim(jobs)
    assert (first.attempts, second.attempts) == (1, 2)
    with pytest.raises(LeaseLost):
        first.note(lines=9)
    with pytest.raises(LeaseLost):
        first.finish(60, status="complete")
    second.finish(60, status="complete")
    assert jobs.open() == []
    assert 0 < redis_client.ttl("segsync:{imports}:job:j1") <= 60


def test_what_is_given_back_can_be_taken_up_at_once_and_counts_as_no_attempt(jobs: Jobs) -> None:
    begin(jobs)
    claim(jobs).give_back()
    assert jobs.due("preparing") == ["j1"]
    assert claim(jobs).attempts == 1


def test_only_one_may_be_about_a_subject_until_it_is_through(jobs: Jobs) -> None:
    begin(jobs, "j1", "env/beta")
    assert jobs.busy("env/beta") == "j1"
    assert jobs.begin("j2", {"status": "preparing"}, subject="env/beta") == "j1"
    assert jobs.read("j2") is None
    begin(jobs, "j3", "env/other")
    claim(jobs).wait(status="in_progress")
    assert jobs.busy("env/beta") is None
    begin(jobs, "j2", "env/beta")
    # The first is over only now, and must not free what is the second's.
    assert jobs.note("j1", "", "over", {"status": "complete"}, 60)
    assert jobs.busy("env/beta") == "j2"


def test_beginning_again_after_a_lost_reply_changes_nothing(jobs: Jobs) -> None:
    begin(jobs, subject="env/beta")
    claim(jobs).note(lines=3)
    assert jobs.begin("j1", {"status": "preparing"}, subject="env/beta") is None
    found = jobs.read("j1")
    assert found is not None
    assert found["lines"] == "3"


def test_work_that_nobody_is_at_is_hinted_at_now_and_then(jobs: Jobs, redis_client: redis.Redis) -> None:
    begin(jobs)
    assert jobs.due("preparing") == []  # whoever began it has hinted at it
    redis_client.hincrby("segsync:{imports}:job:j1", "hinted_ms", -10_001)
    assert jobs.due("in_progress") == []
    assert jobs.due("preparing") == ["j1"]
    assert jobs.due("preparing") == []
    claim(jobs)
    redis_client.hincrby("segsync:{imports}:job:j1", "hinted_ms", -10_001)
    assert jobs.due("preparing") == []
    its_worker_is_gone(redis_client)
    assert jobs.due("preparing") == ["j1"]


def test_a_file_comes_back_as_it_was_and_lives_as_long_as_its_record(jobs: Jobs, redis_client: redis.Redis) -> None:
    content = [bytes([number]) * 100_000 for number in range(7)]
    key = jobs.pieces_key("j1")
    file = write_file(redis_client, key, content)
    assert (file.size_bytes, file.pieces) == (700_000, 3)
    assert b"".join(read_file(redis_client, key, file.pieces)) == b"".join(content)
    assert 0 < redis_client.ttl(key) <= UNFINISHED_SECONDS
    assert jobs.begin("j1", {"status": "preparing"}, pieces=file.pieces) is None
    assert redis_client.ttl(key) == -1


def test_an_upload_that_is_cut_leaves_nothing(redis_client: redis.Redis) -> None:
    def cut() -> object:
        yield b"x" * 600_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write_file(redis_client, "upload", cut())  # type: ignore[arg-type]
    assert redis_client.exists("upload") == 0
    with pytest.raises(FileGone):
        list(read_file(redis_client, "upload", 1))


def test_an_upload_whose_pieces_are_gone_is_not_put_on_record(jobs: Jobs) -> None:
    with pytest.raises(Unavailable, match="what was uploaded is gone"):
        jobs.begin("j1", {"status": "preparing"}, subject="env/beta", pieces=2)
    assert jobs.open() == []
    assert jobs.busy("env/beta") is None
