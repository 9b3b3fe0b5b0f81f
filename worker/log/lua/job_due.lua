-- The work that waits for a worker: nobody is at it, and no hint of it was sent lately. Claims the hints.
-- ARGV: lease time (ms), ms after which a hint is taken for lost, the status in which work waits for a worker
-- Returns {id, ...}
local now, reply = now_ms(), {}
local open = redis.call('ZRANGE', base .. ':open', 0, -1)
for i = 1, #open do
  local job = base .. ':job:' .. open[i]
  local known = redis.call('HMGET', job, 'lease', 'beat_ms', 'hinted_ms', 'status')
  if not known[1] then
    redis.call('ZREM', base .. ':open', open[i])
  elseif known[4] == ARGV[3] and (known[1] == '' or now >= tonumber(known[2]) + tonumber(ARGV[1]))
    and now >= tonumber(known[3]) + tonumber(ARGV[2]) then
    redis.call('HSET', job, 'hinted_ms', string.format('%.0f', now))
    reply[#reply + 1] = open[i]
  end
end
return reply
