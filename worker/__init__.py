"""segsync: partner cohort webhooks in, LaunchDarkly big-segment membership out.

The house has five floors; a module imports only from floors below its own (import-linter enforces it).

    __main__.py  cli/                      5  how people start and reach it: up, the roles, manifest tools, bench/
    asgi.py  celery.py                     4  the roles' entries: small front doors
    api/                                   3  how people's programs reach it: LaunchDarkly's management API; replay
    receiver/                              3  the webhook: authenticate, cap, validate, append, answer; explanations
    sync/                                  3  drain (lease, read, fold, write, advance), sweep, compaction; tasks
    wiring.py                              3  the composition root: settings -> log, records, stores
    incarnation.py                         3  whose life a store leads: wiped, rolled back, another's
    manifest/                              2  manifest file -> RequestParser -> compiled decoder; response body; lint
    log/                                   2  segment log: keyspace, append, lease, upkeep; lua/
    stores/                                2  SegmentStore, and redis, dynamodb, launchdarkly, memory behind it
    records/                               2  environments, tokens, stores, segment keys, options; circuits and brakes
    state.py  state_line.py  settings.py   1  the state server's clients, the only reader of the environment, plain
    model.py  errors.py  logs.py              values, the taxonomy, log lines, what a process owes its parent
    processes.py

A payload's way: receiver/webhook.py -> manifest/decoder.py -> log/append.py ~> sync/drain.py -> stores/redis/.
"""
