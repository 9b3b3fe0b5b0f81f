-- Decide what becomes of a kept body: once, for good.
-- ARGV: batch id, status, by, why
-- Returns 1 when this call decided it
local body = base .. ':body:' .. ARGV[1]
if redis.call('HGET', body, 'status') ~= 'rejected' then return 0 end
redis.call('HSET', body, 'status', ARGV[2], 'by', ARGV[3], 'why', ARGV[4], 'decided_ms', string.format('%.0f', now_ms()))
redis.call('HINCRBY', base .. ':totals', ARGV[2], 1)
return 1
