-- What the log no longer has: the snapshot, and the live entries beside the stream that it does not contain yet, in
-- order of position, until so many bytes are read; at least one if there is one. Reads only.
-- ARGV: generation, position (entries up to it were asked for before, or are not wanted), bytes
-- Returns {} (nothing was compacted) | {token, position, chunks, floor, batches, bytes, '1' if more entries follow, then
--   id, fields, ... as read does}
local generation, from, budget = ARGV[1], ARGV[2], tonumber(ARGV[3])
local head = redis.call('HMGET', head_key(generation),
  'snapshot', 'trimmed', 'floor', 'trimmed_batches', 'trimmed_bytes')
if not head[1] then return {} end
local dead = dead_key(generation)
local reply = {head[1], head[2], redis.call('LLEN', snapshot_key(generation, head[1])), head[3], head[4], head[5], '0'}
local id = next_late(generation, from)
while id and not after(id, head[2]) do
  if redis.call('HEXISTS', dead, id) == 0 then
    if budget <= 0 and #reply > 7 then
      reply[7] = '1'
      break
    end
    local fields = late_fields(generation, id)
    for i = 2, #fields, 2 do budget = budget - #fields[i] end
    reply[#reply + 1] = id
    reply[#reply + 1] = fields
  end
  id = next_late(generation, id)
end
return reply
