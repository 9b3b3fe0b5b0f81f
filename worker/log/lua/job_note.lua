-- Note how far a piece of work is; it shows that its worker lives.
-- ARGV: id, token ('' for who looks after work that waits for others), what becomes of it: 'on' | 'back' (somebody else may
--   take it up: nothing is wrong with it) | 'free' (its subject may be another's; it waits) | 'over', seconds to keep the
--   record when it is over, then fields and values
-- Returns 1, or 0 when it is another worker's, or over
local id, token, becomes, job = ARGV[1], ARGV[2], ARGV[3], base .. ':job:' .. ARGV[1]
local known = redis.call('HMGET', job, 'lease', 'subject')
if not redis.call('ZSCORE', base .. ':open', id) or (known[1] or '') ~= token then return 0 end
redis.call('HSET', job, 'beat_ms', string.format('%.0f', now_ms()))
if #ARGV > 4 then redis.call('HSET', job, unpack(ARGV, 5)) end
if becomes == 'on' then return 1 end
redis.call('HSET', job, 'lease', '')
if becomes == 'back' then
  redis.call('HINCRBY', job, 'attempts', -1)
  redis.call('HSET', job, 'hinted_ms', '0')
  return 1
end
local busy = base .. ':busy'
if known[2] ~= '' and redis.call('HGET', busy, known[2]) == id then redis.call('HDEL', busy, known[2]) end
if becomes == 'over' then
  redis.call('ZREM', base .. ':open', id)
  redis.call('EXPIRE', job, ARGV[4])
end
return 1
