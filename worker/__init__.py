"""segsync: partner cohort webhooks in, LaunchDarkly big-segment membership out.

The house has five floors; a module imports only from floors below its own (import-linter enforces it).

    asgi.py  celery.py  __main__.py        5  entries: three-line front doors
    cli/                                   4  how people reach it: up, the roles, segments, member, demo
    receiver/                              3  the webhook: authenticate, cap, validate, append, answer
    sync/                                  3  drain (lease, read, fold, write, advance), sweep, heartbeat, trim; tasks
    wiring.py                              3  the composition root: settings -> log, records, stores
    manifest/                              2  manifest file -> RequestParser -> compiled decoder; response body
    log/                                   2  segment log: keyspace, append, take, read, advance, settle, trim; lua/
    stores/                                2  SegmentStore and its implementations: redis, dynamodb, memory
    records/                               2  projects, environments, tokens, stores' configurations, segment keys
    settings.py  model.py  errors.py       1  the only reader of the environment, plain values, the taxonomy

A payload's way: receiver/app.py -> manifest/decoder.py -> log/append.py ~> sync/drain.py -> stores/redis.py.
"""
