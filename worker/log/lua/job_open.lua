-- Begin a piece of work that a worker is to do: an import, or an export. What it needs lies there already, for an hour.
-- ARGV: id, subject ('' or what only one may be about at a time), pieces that its upload must have, then fields and values
-- Returns {'busy', id of the one that is at it} | {'incomplete'} (the upload took longer than it had) | {'open', ms}
local id, subject, pieces = ARGV[1], ARGV[2], tonumber(ARGV[3])
local job, list, busy = base .. ':job:' .. id, base .. ':pieces:' .. id, base .. ':busy'
local now = string.format('%.0f', now_ms())
if redis.call('EXISTS', job) == 1 then return {'open', redis.call('HGET', job, 'created_ms')} end
if subject ~= '' then
  local other = redis.call('HGET', busy, subject)
  if other and redis.call('ZSCORE', base .. ':open', other) then return {'busy', other} end
end
if pieces > 0 and redis.call('LLEN', list) ~= pieces then return {'incomplete'} end
redis.call('HSET', job, 'subject', subject, 'created_ms', now, 'lease', '', 'beat_ms', '0', 'attempts', '0',
  'hinted_ms', now, unpack(ARGV, 4))
redis.call('ZADD', base .. ':open', now, id)
if subject ~= '' then redis.call('HSET', busy, subject, id) end
if pieces > 0 then redis.call('PERSIST', list) end
return {'open', now}
