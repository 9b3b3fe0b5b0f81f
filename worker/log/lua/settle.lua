-- The sweeper ends a drain that nobody runs: its mark outlived its lease by longer than any request can take to land
-- (rule 7). Never while that drain holds the lease.
-- ARGV: generation, store, token
-- Returns {1 when a mark was settled, 1 when a wake-up is due (and claimed)}
if lease(cursor_key(ARGV[1], ARGV[2])) == ARGV[3] then return {0, 0} end
local settled = rewind_mark(ARGV[1], ARGV[2], ARGV[3])
return {settled, arm(ARGV[1], ARGV[2])}
