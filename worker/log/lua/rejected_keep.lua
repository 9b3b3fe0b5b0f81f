-- Keep the body of a request that was answered 400, at an accept position of its own, in place of the oldest ones where
-- the quota asks for it.
-- ARGV: batch id, quota (bytes), not_after (ms of this server's clock: later than that, nobody waits for it any more),
--   how many may make room in one call, then fields and values
-- Returns {'expired'} | {'too large'} | {'kept', position, ids of those that made room undecided ...}
--   | {'again', ids of those that made room undecided ...} (more have to)
local id, quota, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local index, bytes, totals, body = base .. ':index', base .. ':bytes', base .. ':totals', base .. ':body:' .. id
local now = now_ms()
if now > tonumber(ARGV[3]) then return {'expired'} end
local existing = redis.call('HGET', body, 'position')
if existing then return {'kept', existing} end

local size, fields = 640, {} -- what a body's key, hash and place in the index take beside the values, as measured
for i = 5, #ARGV do
  size = size + #ARGV[i]
  fields[#fields + 1] = ARGV[i]
end
if size > quota then return {'too large'} end
-- The first write is one that a full server refuses: then nothing has made room yet.
local number = redis.call('INCR', base .. ':counter')

local undecided = {}
local held = tonumber(redis.call('GET', bytes) or '0')
while held + size > quota do
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest then break end
  if most == 0 then return {'again', unpack(undecided)} end
  most = most - 1
  local known = redis.call('HMGET', base .. ':body:' .. oldest, 'size', 'status')
  redis.call('DEL', base .. ':body:' .. oldest)
  redis.call('ZREM', index, oldest)
  held = redis.call('DECRBY', bytes, known[1] or '0')
  if known[2] == 'rejected' then
    redis.call('HINCRBY', totals, 'dropped', 1)
    undecided[#undecided + 1] = oldest
  end
end

-- After every entry of the same millisecond: no stream counts so far within one.
local position = string.format('%.0f-%.0f', now, 1e12 + number)
redis.call('HSET', body, 'position', position, 'status', 'rejected', 'size', string.format('%.0f', size),
  unpack(fields))
redis.call('ZADD', index, string.format('%.0f', now), id)
redis.call('INCRBY', bytes, string.format('%.0f', size))
redis.call('HINCRBY', totals, 'kept', 1)
return {'kept', position, unpack(undecided)}
