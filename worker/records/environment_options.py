"""What may be set for one environment: other ids that payloads carry for it, and policies for members."""

from __future__ import annotations

import redis

from worker.errors import Conflict, Misconfigured, NotFound
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy
from worker.records.change import change_records
from worker.records.directory import Directory, policy_field
from worker.records.tables import ALIASES, POLICIES, Writes, write_record

_LONGEST_ALIAS = 256


class EnvironmentOptions:
    """Changes the options of environments. Running receivers follow within seconds."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add_alias(self, alias: str, environment_id: str) -> None:
        """Let payloads carry ``alias`` as their environment id: a partner's own project id, as Mixpanel sends it.

        Raises:
            NotFound: there is no such environment.
            Conflict: it is an environment's own id, or an alias of another environment.
            Misconfigured: it is empty or too long.
            Unavailable: the state server is away.
        """
        if not alias.isprintable() or not 0 < len(alias) <= _LONGEST_ALIAS or alias != alias.strip():
            raise Misconfigured(f"an alias is 1 to {_LONGEST_ALIAS} printable characters, without blanks around them")

        def decide(directory: Directory) -> tuple[None, Writes | None]:
            if environment_id not in directory.environments:
                raise NotFound(f"there is no environment {environment_id}")
            if alias in directory.environments:
                raise Conflict(f"{alias} is an environment's own id; payloads that carry it are taken already")
            taken = directory.aliases.get(alias)
            if taken == environment_id:
                return None, None
            if taken is not None:
                raise Conflict(f"{alias} is an alias of environment {taken}; remove it there first")
            return None, lambda pipe: pipe.hset(ALIASES, alias, environment_id)

        change_records(self._client, decide)

    def remove_alias(self, alias: str) -> None:
        """Refuse payloads that carry ``alias`` from now on.

        Raises:
            NotFound: there is no such alias.
            Unavailable: the state server is away.
        """

        def decide(directory: Directory) -> tuple[None, Writes]:
            if alias not in directory.aliases:
                raise NotFound(f"there is no alias {alias}")
            return None, lambda pipe: pipe.hdel(ALIASES, alias)

        change_records(self._client, decide)

    def set_policy(self, environment_id: str, integration_key: str, policy: MemberPolicy) -> None:
        """Say what becomes of an integration's payloads in which single members cannot be read.

        Raises:
            Unavailable: the state server is away.
        """
        text = None if policy == DEFAULT_MEMBER_POLICY else policy
        write_record(self._client, POLICIES, policy_field(environment_id, integration_key), text)
