-- Take up a piece of work that nobody is at, or whose worker has not shown itself for a lease time.
-- ARGV: id, token, lease time (ms)
-- Returns {} (somebody is at it, or it is over) | its fields and values
local id, job = ARGV[1], base .. ':job:' .. ARGV[1]
if not redis.call('ZSCORE', base .. ':open', id) then return {} end
local known, now = redis.call('HMGET', job, 'lease', 'beat_ms'), now_ms()
if not known[1] then -- the record is gone: nobody can do it any more
  redis.call('ZREM', base .. ':open', id)
  return {}
end
if known[1] ~= '' and now < tonumber(known[2]) + tonumber(ARGV[3]) then return {} end
redis.call('HSET', job, 'lease', ARGV[2], 'beat_ms', string.format('%.0f', now))
redis.call('HINCRBY', job, 'attempts', 1)
return redis.call('HGETALL', job)
