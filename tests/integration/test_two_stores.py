"""One environment with a Redis and a DynamoDB store: both follow, each by its own cursor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from deployment import deployed
from ldclient.integrations import DynamoDB, Redis
from servers import VOLATILE, MotoServer, ValkeyServer, wait_until

from worker.manifest.examples import Change, example
from worker.stores.layout import context_hash


def test_a_payload_reaches_every_store_and_a_later_store_is_filled_from_the_log(
    start_valkey: Callable[..., ValkeyServer], moto_server: MotoServer, dynamodb_table: str, tmp_path: Path
) -> None:
    state = start_valkey(VOLATILE)
    redis_reader = Redis.new_big_segment_store(url=state.url)
    dynamodb_reader = DynamoDB.new_big_segment_store(
        dynamodb_table, dynamodb_opts={"endpoint_url": moto_server.url, "region_name": moto_server.region}
    )

    def members(reader: Any) -> set[str]:
        found = {person: reader.get_membership(context_hash(person)) for person in ("ann", "bob", "cyd")}
        return {person for person, refs in found.items() if refs and refs.get("hightouch-c1.g1")}

    with deployed(state, tmp_path, workers=1, settings={"SEGSYNC_DURABILITY": "memory"}) as deployment:
        url = deployment.start_receiver()

        def send(add: list[str], remove: list[str]) -> None:
            for body in example("hightouch", Change(deployment.environment_id, "c1", "C 1", add, remove)):
                headers = {"Authorization": deployment.writer_token}
                answer = httpx2.post(f"{url}/api/v2/segment-targets/hightouch", json=body, headers=headers)
                assert answer.status_code == 204, answer.text

        send(["ann", "bob"], [])
        wait_until(lambda: members(redis_reader) == {"ann", "bob"}, 15, "both in Redis")
        table = ["--dynamodb-table", dynamodb_table, "--dynamodb-region", moto_server.region]
        deployment.init(*table, "--dynamodb-endpoint", moto_server.url)
        wait_until(lambda: members(dynamodb_reader) == {"ann", "bob"}, 40, "the new store filled")
        send(["cyd"], ["ann"])
        for reader in (redis_reader, dynamodb_reader):
            wait_until(lambda reader=reader: members(reader) == {"bob", "cyd"}, 15, "both stores follow")  # type: ignore[misc]
        wait_until(lambda: dynamodb_reader.get_metadata().last_up_to_date is not None, 20, "freshness in DynamoDB")
