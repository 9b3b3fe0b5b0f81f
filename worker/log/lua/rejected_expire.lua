-- Remove kept bodies, oldest first, whose retention is over.
-- ARGV: before (ms), how many at the most
-- Returns {id, position, status, integration, environment, reason, ...} of those removed
local index, totals, reply = base .. ':index', base .. ':totals', {}
local found = redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for i = 1, #found do
  local body = base .. ':body:' .. found[i]
  local known = redis.call('HMGET', body, 'position', 'status', 'integration', 'environment', 'reason', 'size')
  redis.call('DEL', body)
  redis.call('ZREM', index, found[i])
  redis.call('DECRBY', base .. ':bytes', known[6] or '0')
  if known[2] == 'rejected' then redis.call('HINCRBY', totals, 'expired', 1) end
  reply[#reply + 1] = found[i]
  for j = 1, 5 do reply[#reply + 1] = known[j] or '' end
end
return reply
