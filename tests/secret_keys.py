"""The key with which tests keep secrets: every process that a test starts finds it in its environment."""

from __future__ import annotations

from worker.records.secret_box import SecretBox

VARIABLE = "SEGSYNC_SECRET_KEYS"
KEY = "dGVzdHMga2VlcCBubyBzZWNyZXRzLCBldmVyLiAzMiE="
BOX = SecretBox([KEY])
