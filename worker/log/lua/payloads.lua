-- Which shared payloads this log needs no more: no entry of the stream refers to them, and none beside it. They are noted
-- until the caller has told each of them.
-- ARGV: generation
-- Returns {payload id, ...}
local generation = ARGV[1]
local prefix = base .. ':g' .. generation
local gone = redis.call('HGET', head_key(generation), 'trimmed_batches') or '0'
local refs = redis.call('ZRANGEBYSCORE', prefix .. ':refs', '-inf', gone)
if #refs > 0 then
  local needed, late = {}, redis.call('ZRANGE', late_key(generation), 0, -1)
  for i = 1, #late do needed[redis.call('HGET', late_entry_key(generation, late[i]), 'r') or ''] = true end
  for i = 1, #refs do
    if not needed[refs[i]] then
      redis.call('SADD', prefix .. ':releasing', refs[i])
      redis.call('ZREM', prefix .. ':refs', refs[i])
    end
  end
end
return redis.call('SMEMBERS', prefix .. ':releasing')
