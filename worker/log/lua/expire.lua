-- Take the lease from a drain whose renewal counter has not moved for one lease time by the caller's clock (rule 4).
-- Its open mark stays: its bytes may still land.
-- ARGV: generation, store, token, beat
-- Returns {1 when it was taken away, 1 when a wake-up is due (and claimed)}
local cursor = cursor_key(ARGV[1], ARGV[2])
if lease(cursor) ~= ARGV[3] or redis.call('HGET', cursor, 'beat') ~= ARGV[4] then return {0, 0} end
redis.call('HSET', cursor, 'lease', '', 'suspect', '1') -- perhaps it was a batch that killed its worker
return {1, arm(ARGV[1], ARGV[2])}
