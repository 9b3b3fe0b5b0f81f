-- A rebuild: the store's cursor says nothing any more, and everything is folded into the store again (rule 14).
-- ARGV: generation, store
-- Returns 1 when a wake-up is due (and claimed)
local cursor = cursor_key(ARGV[1], ARGV[2])
rewind_cursor(cursor, '0-0', '0', '0')
redis.call('HDEL', cursor, 'filling')
inexact(ARGV[1])
return arm(ARGV[1], ARGV[2])
