-- Let the lease go. Clean: every store request was answered, so the open mark goes with it (rule 7). Unclean: the fate
-- of a request is unknown, the mark stays. The log is checked against the cursor in the same step (rule 5).
-- ARGV: generation, store, token, clean ('1' or '0'), exact ('0' when members may have changed without being counted),
--   innocent ('1' when every entry that was read could be parsed, or is dead)
-- Returns {'lost'} | {'released', 1 when a wake-up is due (and claimed) or 0}
local generation, store, token = ARGV[1], ARGV[2], ARGV[3]
local cursor = cursor_key(generation, store)
if lease(cursor) ~= token then return {'lost'} end
redis.call('HSET', cursor, 'lease', '')
if ARGV[4] == '1' then redis.call('HDEL', open_key(generation, store), token) end
if ARGV[6] == '1' then redis.call('HDEL', cursor, 'suspect') end
if ARGV[5] == '0' then inexact(generation) end
return {'released', arm(generation, store)}
