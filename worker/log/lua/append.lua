-- Append one batch to its segment's log (rule 1): create the segment or refuse the context kind, de-duplicate, stamp.
-- ARGV: batch_id, context_kind, integration_key, cohort_id, name, url, payload_id ('' if the entry holds the body),
--       n, n entry fields and values, then the store ids of the environment
-- Returns {'kind', existing kind} | {'duplicate', generation} | {'appended', generation, entry id, store ids due ...}
local batch_id, kind, integration, cohort, name, url, payload_id =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local fields = tonumber(ARGV[8])

local existing = redis.call('HGET', segment_key, 'context_kind')
if existing and existing ~= kind then return {'kind', existing} end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now, minute_ago = string.format('%.0f', now_ms), string.format('%.0f', now_ms - 60000)
if not existing then
  redis.call('HINCRBY', segment_key, 'generation', 1)
  redis.call('HSET', segment_key, 'context_kind', kind, 'integration_key', integration, 'cohort_id', cohort,
    'created_ms', now, 'members', '0', 'members_exact', '1')
end
local generation = redis.call('HGET', segment_key, 'generation')

local recent = base .. ':g' .. generation .. ':recent'
if redis.call('ZADD', recent, 'NX', now, batch_id) == 0 then return {'duplicate', generation} end
redis.call('ZREMRANGEBYSCORE', recent, '-inf', minute_ago)
redis.call('PEXPIRE', recent, 120000)

local size, entry = 0, {}
for i = 9, 8 + fields do
  entry[#entry + 1] = ARGV[i]
  size = size + #ARGV[i]
end
local head = head_key(generation)
local batches = redis.call('HINCRBY', head, 'batches', 1)
local bytes = redis.call('HINCRBY', head, 'bytes', size)
local id = redis.call('XADD', log_key(generation), '*', 'b', batch_id,
  'n', string.format('%.0f', batches), 's', string.format('%.0f', bytes), unpack(entry))
redis.call('HSET', head, 'last', id)

local accepted = string.match(id, '^(%d+)')
redis.call('HSET', segment_key, 'accepted_ms', accepted)
if name ~= '' then redis.call('HSET', segment_key, 'name', name) end
if url ~= '' then redis.call('HSET', segment_key, 'url', url) end
if payload_id ~= '' then redis.call('ZADD', base .. ':g' .. generation .. ':refs', batches, payload_id) end

local reply = {'appended', generation, id}
for i = 9 + fields, #ARGV do
  if arm(generation, ARGV[i]) == 1 then reply[#reply + 1] = ARGV[i] end
end
return reply
